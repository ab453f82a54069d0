"""A deployment as the guide makes it: a folder with the compose files and .env, and somebody who types."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.containers.engine import ROOT, Images, docker
from tests.real_faults import wait_until

PROD, TEST = "docker-compose.prod.yml", "docker-compose.test.yml"
NONE = "docker-compose -f {file} down --volumes --remove-orphans --timeout 5"
PATIENCE = 120.0
KEPT = ("PATH", "HOME", "DOCKER_HOST", "LANG")
ISSUER = {"name": "Höhere Schule", "url": "https://school.example.org/"}
ACHIEVEMENT = {
    "name": "データ分析",
    "description": "表計算と統計",
    "criteria": "https://school.example.org/criteria",
    "image": "https://school.example.org/badge.png",
}


@dataclass(slots=True, kw_only=True)
class Ended:
    """What a command said, and how it ended."""

    code: int = -1
    out: str = ""
    err: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One of a kind of database, with ports of its own."""

    folder: Path
    kind: str
    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def made(cls, folder: Path, kind: str, images: Images, **settings: str) -> Iterator["Site"]:
        """Nothing is started yet; at the end nothing of it is left."""
        site = cls(folder=folder, kind=kind, settings={**_settings(kind, images), **settings})
        folder.mkdir()
        for name in (PROD, TEST):
            shutil.copyfile(ROOT / name, folder / name)
        site.write_settings()
        try:
            yield site
        finally:
            site.remove()

    def write_settings(self, **more: str) -> None:
        self.settings.update(more)
        lines = [f"{name}={value}\n" for name, value in self.settings.items()]
        (self.folder / ".env").write_text("".join(lines), encoding="utf-8")

    def remove(self) -> None:
        self.run(f"docker-compose -f {PROD} unpause")
        for file in (TEST, PROD):
            self.run(NONE.format(file=file))

    # Typing

    def run(self, command: str, *, seconds: float = 240, environment: dict[str, str] | None = None) -> Ended:
        """Type it in this folder, without a terminal."""
        started = time.monotonic()
        done = subprocess.run(
            ["timeout", "-s", "KILL", str(seconds), "bash", "-c", command],
            cwd=self.folder,
            env={name: os.environ[name] for name in KEPT if name in os.environ} | (environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.monotonic() - started
        return Ended(code=done.returncode, out=done.stdout, err=done.stderr, seconds=took)

    @contextmanager
    def typed(
        self, command: str, effect: str, *, code: int = 0, environment: dict[str, str] | None = None
    ) -> Iterator[Ended]:
        """Type it; if what is asserted meanwhile holds, tell of it in a line."""
        ended = self.run(command, environment=environment)
        assert ended.code == code, f"{command}\n{ended.out}\n{ended.err}"
        yield ended
        print(f"{self.kind:<10} {ended.seconds:6.1f} s  {command}  ->  {effect}", flush=True)

    def obms(self, command: str) -> Any:
        """The JSON of a command in a container beside the others."""
        ended = self.run(f"docker-compose -f {PROD} run --rm backup obms {command} --json")
        assert ended.code == 0, ended.out + ended.err
        return json.loads(ended.out)

    def python(self, program: str) -> Ended:
        """Run a program there, with the product's own code."""
        (self.folder / "program.py").write_text(program, encoding="utf-8")
        inside = "/opt/obms/bin/python3 /program.py"
        return self.run(
            f'docker-compose -f {PROD} run --rm -v "$PWD/program.py:/program.py:ro" backup {inside}'
        )

    def container(self, service: str) -> str:
        return self.run(f"docker-compose -f {PROD} ps -q {service}").out.strip()

    # What can be seen

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    def proven(self) -> list[dict[str, Any]]:
        """What is proven, as the files beside the images say, oldest first."""
        proofs = sorted(self.backups.glob("*.proof.json"))
        read = [json.loads(path.read_text(encoding="utf-8")) for path in proofs]
        return [proof for proof in read if proof["level"] == "proven" and proof["outcome"] == "good"]

    def api(self, *, test: bool = False) -> "Api":
        port = self.settings["TEST_PORT" if test else "PORT"]
        return Api(url=f"http://localhost:{port}", key=self.settings["AUTH_API_KEY"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """Whoever talks to the server over HTTP."""

    url: str
    key: str

    def ask(self, method: str, path: str, json: object = None) -> httpx.Response:
        return httpx.request(
            method, self.url + path, headers={"X-API-Key": self.key}, json=json, timeout=30.0
        )

    def health(self) -> str | None:
        """Its status, or None where nobody answers."""
        try:
            return str(self.ask("GET", "/health").json()["status"])
        except (httpx.TransportError, ValueError):
            return None

    def wait_until_healthy(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.health() not in {"ok", "degraded"}:
            assert time.monotonic() < deadline, f"{self.url}/health: {self.health()}"
            time.sleep(0.2)

    def issue(self) -> str:
        """The bare id of a new credential, of a new issuer."""
        issuer = self.ask("POST", "/issuers", ISSUER)
        assert issuer.status_code == 201, issuer.text
        achievement = self.ask("POST", "/achievements", ACHIEVEMENT | {"issuer": issuer.json()["id"]})
        assert achievement.status_code == 201, achievement.text
        order = {
            "recipient": {"type": "email", "identity": "zoë@example.org"},
            "badge": achievement.json()["id"],
            "issuedOn": "2026-01-01T00:00:00Z",
        }
        credential = self.ask("POST", "/credentials", order)
        assert credential.status_code == 201, credential.text
        return str(credential.json()["id"]).rpartition("/")[2].rpartition(":")[2]

    def revoke(self, id: str) -> None:
        assert self.ask("POST", f"/credentials/{id}/revoke", {"reason": "Irrtum"}).status_code == 200

    def delete(self, id: str) -> None:
        assert self.ask("DELETE", f"/credentials/{id}").status_code == 204

    def state(self, id: str) -> str:
        """`valid`, `revoked`, or `gone`."""
        answer = self.ask("GET", f"/credentials/{id}")
        if answer.status_code == 404:
            return "gone"
        if answer.status_code == 410:
            return "revoked"
        verdict = self.ask("GET", f"/credentials/{id}/verify").json()
        assert verdict["isValid"], verdict
        return "valid"


def left_of(folder: Path) -> list[str]:
    """The containers, volumes and networks of a folder's project."""
    project = f"label=com.docker.compose.project={folder.name}"
    found = (docker(kind, *words, "--filter", project) for kind, *words in KINDS)
    return [line for lines in found for line in lines.splitlines()]


KINDS = (
    ("ps", "--all", "--format={{.Names}}"),
    ("volume", "ls", "--format={{.Name}}"),
    ("network", "ls", "--format={{.Name}}"),
)


def _settings(kind: str, images: Images) -> dict[str, str]:
    of_kind = (
        {"DB_TYPE": "postgresql", "COMPOSE_PROFILES": "db", "POSTGRES_PASSWORD": "your_password"}
        if kind == "postgresql"
        else {"DB_TYPE": "sqlite"}
    )
    port, other = _free_port(3000), _free_port(3001)
    return {
        **images.settings,
        **of_kind,
        "SECRET_KEY": secrets.token_hex(32),
        "AUTH_API_KEY": secrets.token_hex(16),
        "PORT": str(port),
        "TEST_PORT": str(other),
        "BASE_URL": f"http://localhost:{port}",
    }


def _free_port(wanted: int) -> int:
    """That one, as in the guide, if nobody has it."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("0.0.0.0", port))  # noqa: S104 - where docker will listen
                return int(probe.getsockname()[1])
            except OSError:
                continue
    raise AssertionError("no port is free")


__all__ = ["Api", "Ended", "Site", "left_of", "wait_until"]
