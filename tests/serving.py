"""The API as real processes, on a port of its own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.deployment import Deployment
from tests.postgres import clean_environment
from tests.real_faults import wait_until

STOP_SECONDS = 30


@contextmanager
def serving(deployment: Deployment, workers: int) -> Iterator[str]:
    """The API as real processes; its address. Whatever happens to the test, they end with it."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "obms.web:create"]
    # Into a file: a pipe would have to be read to the end, and it has none while a process lives.
    printed = deployment.folder / "uvicorn.log"
    with printed.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--workers", str(workers)],
            env={**clean_environment(), **deployment.environment, "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=deployment.folder,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: _started(process, printed) >= workers, "the start of the API")
        yield f"http://127.0.0.1:{port}"
    finally:
        _stop(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _started(process: "subprocess.Popen[bytes]", printed: Path) -> int:
    said = printed.read_text("utf-8")
    assert process.poll() is None, f"uvicorn ended: {said}"
    return said.count("Application startup complete")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End it; all that is left of it is killed."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
