"""Children that read and write for us: their bytes as chunks, their exit status never overlooked."""

import subprocess
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from fcntl import F_SETPIPE_SZ, fcntl
from tempfile import TemporaryFile
from typing import IO

from obms.databases import Chunks
from obms.errors import ObmsError

CHUNK = 1 << 20
CANCEL_SECONDS = 2.0
# An error, or what makes one, of `name`, `detail` and the exit `status` (negative: the signal).
Failure = Callable[..., ObmsError]


def read_from(command: Sequence[str], *, env: Mapping[str, str] | None, error: Failure) -> Generator[bytes]:
    """Standard output of `command` in chunks of 1 MiB; `error` at its end unless it exits with 0."""
    with (
        TemporaryFile() as complaints,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, env=env) as child,
    ):
        assert child.stdout is not None
        with suppress(OSError):  # a larger pipe lets it work ahead; the system may allow no more
            fcntl(child.stdout.fileno(), F_SETPIPE_SZ, CHUNK)
        try:
            while chunk := child.stdout.read(CHUNK):
                yield chunk
            status = child.wait()
        finally:
            _end(child)
        _check(command, status, complaints, error)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Ask first: pg_dump then cancels its query, which would go on waiting for a lock without it."""
    child.terminate()
    try:
        child.wait(CANCEL_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


def write_to(
    command: Sequence[str], chunks: Chunks, *, env: Mapping[str, str] | None, error: Failure
) -> None:
    """Give `chunks` to `command` as its standard input; `error` unless it takes all and exits with 0."""
    with (
        TemporaryFile() as complaints,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaints, env=env
        ) as child,
    ):
        assert child.stdin is not None
        broken = False  # the child stopped reading: its own complaint says why
        try:
            try:
                for chunk in chunks:
                    child.stdin.write(chunk)
            except BrokenPipeError:
                broken = True
            broken |= _close(child.stdin)
            status = child.wait()
        except BaseException:
            _end(child)
            _close(child.stdin)
            raise
        _check(command, status or int(broken), complaints, error)


def _close(pipe: IO[bytes]) -> bool:
    """Close it, and tell whether the child had stopped reading before the last byte."""
    try:
        pipe.close()
    except BrokenPipeError:
        return True
    return False


def _check(command: Sequence[str], status: int, complaints: IO[bytes], error: Failure) -> None:
    if status == 0:
        return
    complaints.seek(0)
    lines = [line.strip() for line in complaints.read(65536).decode(errors="replace").splitlines()]
    said = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no message")
    ended = f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
    detail = f"{command[0].rsplit('/', 1)[-1]} {ended}: {said}"
    raise error(name=command[0], detail=detail, status=status)
