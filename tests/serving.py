"""The API as real processes, on a port of its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.deployment import Deployment
from tests.postgres import clean_environment


@contextmanager
def serving(deployment: Deployment, workers: int) -> Iterator[str]:
    """The API as real processes; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", "obms.web:create"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--workers", str(workers)],
        env={**clean_environment(), **deployment.environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=deployment.folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        started = 0
        while started < workers:
            line = process.stderr.readline()
            assert line, "uvicorn ended"
            started += "Application startup complete" in line
        with ThreadPoolExecutor(1) as reader:
            reader.submit(process.stderr.read)
            yield f"http://127.0.0.1:{port}"
            process.terminate()
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stderr.close()
