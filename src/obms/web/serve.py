"""Serving: uvicorn in front, and the schedule of the backups as a child beside it, or a watch over them."""

import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Event as Flag
from threading import Thread

import uvicorn

from obms.errors import ConfigurationError
from obms.observe import Event, Hook

RESTART_SECONDS = 60.0
LOOK_SECONDS = 30.0
GRACE_SECONDS = 8.0
SCHEDULE = (sys.executable, "-m", "obms", "backup", "schedule", "--until-input-ends")
# How a line of the log begins, which is no reason for anything.
LOG = "timestamp="
PORT_TAKEN = "Set another PORT, or end what has this one (`ss -ltnp` names it)."
NOT_OURS = "Set HOST to an address of this machine, and PORT to one that this user may listen on."


def serve_api(*, host: str, port: int, workers: int, beside: Callable[[Flag], object]) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered, a backup is taken back.

    `beside` goes on in a thread until its flag is set. ConfigurationError where the port cannot be had.
    """
    _require_port(host, port)
    with _going_on(beside):
        uvicorn.run(
            "obms.web:create",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            log_level="warning",
            access_log=False,  # at this level it would cost time and say nothing
            proxy_headers=False,  # uvicorn would believe whatever comes from this machine
            server_header=False,
            timeout_graceful_shutdown=int(GRACE_SECONDS),
        )


def _require_port(host: str, port: int) -> None:
    """Before anything is begun: uvicorn tells it late, and by the exit code of a lost database."""
    try:
        families = {found[0] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        family = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
        socket.create_server((host, port), family=family).close()
    except (OSError, UnicodeError) as error:
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        raise ConfigurationError(
            detail=f"HOST and PORT: {host}:{port} cannot be listened on: {getattr(error, 'strerror', error)}",
            hint=PORT_TAKEN if taken else NOT_OURS,
        ) from error


@contextmanager
def _going_on(beside: Callable[[Flag], object]) -> Iterator[None]:
    over = Flag()
    thread = Thread(target=beside, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(GRACE_SECONDS + 2)  # a notice that nobody takes holds nothing up


def keep_looking(over: Flag, *, look: Callable[[], object]) -> None:
    """Look again and again, where the schedule is kept elsewhere: that may have ended without a word."""
    look()
    while not over.wait(LOOK_SECONDS):
        look()


def keep_running(
    over: Flag, *, notify: Hook, command: Sequence[str] = SCHEDULE, pause: float = RESTART_SECONDS
) -> None:
    """The schedule in a process of its own, so that a backup never slows a request; ended with ours.

    A child that dies is told and started again; one that dies soon after, of the same, is told no more.
    """
    told = None
    while not over.is_set():
        began = time.monotonic()
        ended = _run(command, over)
        if ended is None:
            return
        if ended != told or time.monotonic() - began > RESTART_SECONDS:
            notify(Event(name="schedule.ended", ok=False, facts=ended))
        told = ended
        over.wait(pause)


def _run(command: Sequence[str], over: Flag) -> Mapping[str, object] | None:
    """How it ended by itself, and why; None where it is over.

    Its standard input is a pipe of ours, so that it ends even when we are killed.
    """
    heard, said = os.pipe()
    words = _Words(heard)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said) as child:
        os.close(said)
        words.start()
        while child.poll() is None and not over.wait(0.5):
            continue
        if over.is_set():
            _end(child)
            return None
    words.join(1.0)  # what it has started may go on, and hold the pipe
    return {"exit_code": child.returncode, "error": words.reason if child.returncode > 0 else None}


class _Words(Thread):
    """What comes through a pipe, passed on to standard error as it comes."""

    def __init__(self, pipe: int) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._last = ""

    @property
    def reason(self) -> str | None:
        """The last line, if it may be one."""
        return None if not self._last or self._last.startswith(LOG) else self._last

    def run(self) -> None:
        with os.fdopen(self._pipe, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                sys.stderr.write(line)
                sys.stderr.flush()
                self._last = line.strip() or self._last


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
