"""The console blocks of the documents, typed as they stand there and compared with what they show.

A line that starts with `$ ` is typed into a shell that runs through the whole page; the lines below it
are what it must print on standard output, where `...` stands for anything. Each page has a new server
with samples, a copy of one that is made once. On most pages `obms` is a process that was forked, not started.
"""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from obms.config import Settings
from obms.env_file import write_settings
from tests.warm import warm_command
from tools import first_run

DOCS = Path(__file__).parents[1] / "docs"
PROGRAMS = Path(sys.executable).parent
START_SECONDS = 30.0
COMMAND_SECONDS = 120.0
PAUSE_SECONDS = 0.1
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STARTED = (
    "tutorial/first-badge.md",
    "how-to/look.md",
    "how-to/drill.md",
)  # the program is as it is installed
PAGES = sorted(page for page in DOCS.rglob("*.md") if BLOCK.search(page.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command with what it has to print."""

    command: str
    printed: str


class Shell:
    """A shell that stays, so that a later command finds the variables of an earlier one."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.log = folder / "shell.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", "--norc"],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
            )

    def type(self, command: str) -> tuple[str, int]:
        """What a command prints and the status it ends with."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        mark = f"end-{secrets.token_hex(8)}"
        # In braces, with an input of its own: a command that reads would take what is typed next.
        self.process.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s %s\\n' {mark} $?\n")
        self.process.stdin.flush()
        printed: list[str] = []
        with self._bounded():
            for line in self.process.stdout:
                if line.startswith(mark):
                    return "".join(printed).strip("\n"), int(line.split()[1])
                printed.append(line)
        raise AssertionError(f"the shell ended in {command!r}: {''.join(printed)}")

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """A command that does not end is ended, and its shell with it."""
        timer = threading.Timer(COMMAND_SECONDS, self.process.kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The folder of a server with samples, to be copied, and the port that its badges name."""
    folder, port = tmp_path_factory.mktemp("samples"), _free_port()
    assert write_settings(folder / ".env")
    for command in (("migrate",), ("seed", "--credentials", str(first_run.SAMPLES))):
        subprocess.run([PROGRAMS / "obms", *command], cwd=folder, env=_environment(port), check=True)
    return folder, port


@pytest.fixture(scope="session")
def warm(samples: tuple[Path, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of an `obms` that need not start."""
    with warm_command(tmp_path_factory.mktemp("warm"), _environment(samples[1])) as folder:
        yield folder


@contextmanager
def server(folder: Path, port: int, programs: Path) -> Iterator[Shell]:
    """The server in `folder`, and a shell beside it that looks for programs here first."""
    environment = _environment(port)
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAMS / "obms", "serve"], cwd=folder, env=environment, stdout=log, stderr=log
        )
    shell = Shell(folder, environment | {"PATH": f"{programs}{os.pathsep}{environment['PATH']}"})
    try:
        _wait_until_it_answers(process, port)
        yield shell
    finally:
        shell.close()
        process.terminate()
        process.wait(START_SECONDS)


def _environment(port: int) -> dict[str, str]:
    names = {name.upper() for name in Settings.model_fields}
    outside = {name: value for name, value in os.environ.items() if name not in names}
    path = f"{PROGRAMS}{os.pathsep}{outside['PATH']}"
    url = f"http://localhost:{port}"
    return {**outside, "PATH": path, "PORT": str(port), "BASE_URL": url, "COLUMNS": "110", "NO_COLOR": "1"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            httpx.get(f"http://localhost:{port}/health")
        except httpx.TransportError:
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"the server ended with {process.wait(PAUSE_SECONDS)}") from None
        else:
            return
    raise AssertionError("the server did not start")


def steps_of(page: str) -> list[Step]:
    """The commands of a page in order; one goes on in the next line after a backslash and inside quotes."""
    steps = []
    for block in BLOCK.findall(page):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = iter(part.splitlines())
            command = next(lines)
            while command.endswith("\\") or command.count("'") % 2:
                command += "\n" + next(lines)
            steps.append(Step(command=command, printed="\n".join(lines).strip("\n")))
    return steps


def matches(wanted: str, printed: str) -> bool:
    pattern = re.escape(wanted).replace(r"\.\.\.", ".*")
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the documents use curl")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_what_a_page_shows_is_what_happens(
    page: Path, samples: tuple[Path, int], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    template, port = samples
    started = str(page.relative_to(DOCS)) in STARTED
    programs = PROGRAMS if started else request.getfixturevalue("warm")
    with server(shutil.copytree(template, tmp_path / "server"), port, programs) as shell:
        for step in steps_of(page.read_text(encoding="utf-8").replace("localhost:3000", f"localhost:{port}")):
            printed, status = shell.type(step.command)
            said = shell.log.read_text(encoding="utf-8")
            assert status == 0, f"{step.command}\nended with {status}:\n{printed}\n{said}"
            assert matches(step.printed, printed), (
                f"{step.command}\nshould print:\n{step.printed}\nand not:\n{printed}"
            )


def test_a_page_is_read_as_it_is_written() -> None:
    page = "Text\n\n```console\n$ first \\\n  --more\nsaid ...\n$ echo 'a\nb'\n```\n\n```sh\n$ not run\n```\n"
    assert steps_of(page) == [
        Step(command="first \\\n  --more", printed="said ..."),
        Step(command="echo 'a\nb'", printed=""),
    ]


@pytest.mark.parametrize(
    ("wanted", "printed", "same"),
    [("a ... c", "a b c", True), ("a\n...\nc", "a\n1\n2\nc", True), ("a", "ab", False), ("", "a", False)],
)
def test_what_is_shown_is_compared(wanted: str, printed: str, *, same: bool) -> None:
    assert matches(wanted, printed) is same
