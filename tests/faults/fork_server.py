"""A process with the killer and the whole program in it, that forks a child for each command to be killed.

It reads a request per line (JSON) from its input, and answers with a line each.
"""

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from tests.faults import killer
from tests.faults.killer import NEVER, Mode, Shot
from tests.postgres import clean_environment
from tests.warm import assert_alone, get_warm

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a command ended: `status` is its exit code, or less than 0 the signal.

    `point` is what it was about to do, or had just done; `points` is all that one did which was not killed.
    """

    status: int
    point: str
    points: Sequence[str]
    out: str
    said: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(slots=True, kw_only=True)
class ForkServer:
    """The server, as the tests see it."""

    process: "subprocess.Popen[str]"
    folder: Path

    def run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        shot: Shot = NEVER,
        *,
        program: str = "obms.cli",
        ahead: int = 0,
    ) -> Ending:
        """Run the command with these settings, to be killed by `shot`; its clock is so many seconds ahead.

        `program` names the module whose `main` it is.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {
            "arguments": arguments,
            "environment": {"PATH": os.environ["PATH"], "TMPDIR": str(self.folder), **environment},
            "folder": str(self.folder),
            "shot": asdict(shot),
            "program": program,
            "ahead": ahead,
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the fork server has died"
        return Ending(**json.loads(answer))


@contextmanager
def started(folder: Path) -> Iterator[ForkServer]:
    """A fork server with the killer loaded, ended when it is no longer needed."""
    library = killer.build(folder)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.fork_server"],
        cwd=ROOT,
        env={**clean_environment(), "LD_PRELOAD": str(library)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        with process.stdin:
            yield ForkServer(process=process, folder=folder)


def serve() -> None:
    """Answer requests until the input ends."""
    get_warm()
    while line := sys.stdin.readline():
        assert_alone()
        ending = _ending_of(json.loads(line))
        sys.stdout.write(json.dumps(asdict(ending)) + "\n")
        sys.stdout.flush()


def _ending_of(request: dict[str, object]) -> Ending:
    folder = Path(str(request["folder"]))
    point, counted, out, said = paths = [folder / name for name in ("point", "points", "out", "said")]
    for path in paths:
        path.write_bytes(b"")
    child = os.fork()
    if child == 0:
        _be_killed(request, point, counted, (out, said))
    _, status = os.waitpid(child, 0)
    return Ending(
        status=os.waitstatus_to_exitcode(status),
        point=point.read_text("ascii", "replace"),
        points=counted.read_text("ascii").splitlines(),
        out=out.read_text("utf-8", "replace"),
        said=said.read_text("utf-8", "replace"),
    )


def _be_killed(request: dict[str, object], point: Path, counted: Path, output: tuple[Path, Path]) -> NoReturn:
    """Run the command in this child; it never returns."""
    code: object = 1
    try:
        for descriptor, path in enumerate(output, 1):
            os.dup2(os.open(path, os.O_WRONLY), descriptor)
        code = _run(request, os.open(point, os.O_WRONLY))
    finally:
        if sys.exc_info()[1] is not None:
            traceback.print_exc()
        counted.write_text("\n".join(killer.points()), "ascii")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _run(request: dict[str, object], report: int) -> object:
    """The command's exit code."""
    arguments, environment, shot = request["arguments"], request["environment"], request["shot"]
    assert isinstance(arguments, list)
    assert isinstance(environment, dict)
    assert isinstance(shot, dict)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(str(request["folder"]))
    sys.argv = ["obms", *arguments]
    killer.aim(Shot(text=shot["text"], number=shot["number"], mode=Mode(shot["mode"])), report)
    killer.shift_clock(int(str(request["ahead"])))
    main = importlib.import_module(str(request["program"])).main
    try:
        main()
    except SystemExit as ended:
        return ended.code or 0
    return 0


if __name__ == "__main__":
    serve()
