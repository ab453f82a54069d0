"""A process with the whole program in it, that forks a child for each `obms` typed into a shell.

To start the program takes longer than most of what it is told to do. What is typed is a small program that
hands its arguments, its environment, its folder and its three streams to the child, and ends as that does.
"""

import gc
import importlib
import json
import os
import pkgutil
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import obms
from obms import cli
from tests.deployment import Deployment

ROOT = Path(__file__).parents[1]
READY = b"ready\n"
TYPED = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({address!r})
    told = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(line, [told], [0, 1, 2])
    line.shutdown(socket.SHUT_WR)
    sys.exit(int(line.recv(16) or 1))
"""


@contextmanager
def warm_command(folder: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """A folder for PATH with an `obms` in it that need not start."""
    address = folder / "line"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.warm", str(address)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == READY
            typed = folder / "bin" / "obms"
            typed.parent.mkdir()
            typed.write_text(TYPED.format(python=sys.executable, address=str(address)), "utf-8")
            typed.chmod(0o755)
            yield typed.parent
        finally:
            process.terminate()


def get_warm() -> None:
    """Have here what each child would have to make anew."""
    for module in pkgutil.walk_packages(obms.__path__, "obms."):
        if module.name not in ("obms.__main__", "obms.migrations.env"):
            importlib.import_module(module.name)
    with TemporaryDirectory() as folder, Deployment.made(Path(folder), None) as made:
        made.seed(1)
        made.made_backup()
    gc.collect()  # connections that nobody holds any more are closed
    gc.freeze()  # nor need each child look through, and so copy, what it was born with


def assert_alone() -> None:
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads: a fork would copy the locks they hold"


def serve(address: str) -> None:
    """Fork for whoever calls, until this process is ended."""
    get_warm()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        sys.stdout.buffer.write(READY)
        sys.stdout.flush()
        while True:
            line, _ = door.accept()
            assert_alone()
            with line:
                if os.fork() == 0:
                    door.close()
                    _answer(line)
            _bury()


def _bury() -> None:
    """The children that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _answer(line: socket.socket) -> NoReturn:
    """Do as told in this child; it never returns."""
    code: object = 1
    try:
        told, streams, _, _ = socket.recv_fds(line, 1 << 20, 3)
        while more := line.recv(1 << 20):
            told += more
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        code = _run(*json.loads(told))
    finally:
        if sys.exc_info()[1] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        line.sendall(str(code if isinstance(code, int) else 1).encode())
        os._exit(0)


def _run(arguments: list[str], environment: dict[str, str], folder: str) -> Any:
    """The command's exit code."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["obms", *arguments]
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code or 0
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
