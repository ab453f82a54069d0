"""1EdTech's validator core (`openbadges`), installed for itself, that fetches from the server under test."""

import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from venv import EnvBuilder

from filelock import FileLock

from tests.postgres import clean_environment
from tests.web.conftest import Client

HERE = Path(__file__).parent
LOCK, BUILDERS, RUNNER = HERE / "judge.lock", HERE / "builders.lock", HERE / "judge_runner.py"
INSTALL_SECONDS, JUDGE_SECONDS = 300, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the judge says of a badge, and all that it looked at."""

    report: Mapping[str, Any]
    fetched: tuple[str, ...]

    @property
    def valid(self) -> bool:
        return bool(self.report["report"]["valid"])

    @property
    def messages(self) -> list[str]:
        return [
            f"{message['messageLevel']} {message['name']}: {message['result']}"
            for message in self.report["report"]["messages"]
        ]

    @property
    def recipient(self) -> Any:
        return self.report["report"].get("recipientProfile")

    def __str__(self) -> str:
        said = {name: self.report["report"].get(name) for name in ("valid", "errorCount", "warningCount")}
        return json.dumps(said | {"fetched": len(self.fetched), "messages": self.messages})


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """The judge in its environment, and the server whose addresses it may fetch."""

    python: Path
    client: Client
    site: str

    def text(self, badge: str, recipient: Mapping[str, Any] | None = None) -> Verdict:
        """The verdict on an address, on JSON or on a compact token."""
        return self._ask({"text": badge, "recipient": recipient})

    def picture(self, content: bytes, recipient: Mapping[str, Any] | None = None) -> Verdict:
        """The verdict on a baked picture."""
        return self._ask({"picture": base64.b64encode(content).decode(), "recipient": recipient})

    def _ask(self, asked: Mapping[str, Any]) -> Verdict:
        fetched: list[str] = []
        with subprocess.Popen(
            ["timeout", "-s", "KILL", str(JUDGE_SECONDS), str(self.python), str(RUNNER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(),
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            message: Mapping[str, Any] = asked
            while True:
                process.stdin.write(json.dumps(message) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
                assert line, "the judge ended without a verdict"
                said = json.loads(line)
                if "report" in said:
                    return Verdict(report=said["report"], fetched=tuple(fetched))
                fetched.append(said["fetch"])
                message = self._answer(said)

    def _answer(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a stranger gets at the address; nothing from elsewhere."""
        if not str(said["fetch"]).startswith(self.site + "/"):
            return {"status": 0, "type": "", "body": ""}
        path = str(said["fetch"]).removeprefix(self.site)
        answer = self.client.get(path, key=None, headers={"Accept": said["accept"] or "*/*"})
        return {
            "status": answer.status_code,
            "type": answer.headers.get("content-type", ""),
            "body": base64.b64encode(answer.content).decode(),
        }


def installed() -> Path:
    """The Python of the judge's environment, made once for each state of its lock file."""
    state = sha256(LOCK.read_bytes()).hexdigest()[:12]
    judges = Path(sys.prefix) / "judges"
    judges.mkdir(exist_ok=True)
    folder = judges / f"openbadges-{state}"
    with FileLock(judges / "making.lock"):
        if not (folder / "whole").exists():
            EnvBuilder(with_pip=True, clear=True).create(folder)
            _install(folder / "bin" / "python")
            (folder / "whole").touch()
    return folder / "bin" / "python"


def _install(python: Path) -> None:
    """By pinned hashes; what builds the older ones first, for they do not say that they need it."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--require-hashes", "--no-deps"]
    for lock in (BUILDERS, LOCK):
        subprocess.run([*pip, "--no-build-isolation", "-r", str(lock)], check=True, timeout=INSTALL_SECONDS)
