"""Serving: uvicorn in front, and the schedule of the backups as a child beside it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Flag
from threading import Thread

import uvicorn

from obms.observe import Event, Hook

RESTART_SECONDS = 60.0
GRACE_SECONDS = 8.0


def serve_api(*, host: str, port: int, workers: int, scheduled: bool, notify: Hook) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered, a backup is taken back."""
    with _scheduler(notify, off=not scheduled):
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


@contextmanager
def _scheduler(notify: Hook, *, off: bool) -> Iterator[None]:
    """The schedule in a process of its own, so that a backup never slows a request; ended with ours.

    A child that dies is told and started again; its standard input is a pipe of ours, so that it
    ends even when we are killed.
    """
    if off:
        yield
        return
    over = Flag()
    keeper = Thread(target=_keep_running, args=(over, notify))
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


def _keep_running(over: Flag, notify: Hook) -> None:
    command = (sys.executable, "-m", "obms", "backup", "schedule", "--until-input-ends")
    while not over.is_set():
        with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
            while child.poll() is None and not over.wait(1.0):
                continue
            if over.is_set():
                _end(child)
                return
        notify(Event(name="schedule.ended", ok=False, facts={"exit_code": child.returncode}))
        over.wait(RESTART_SECONDS)


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
