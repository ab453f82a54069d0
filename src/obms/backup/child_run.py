"""A scheduled run as a process of its own, which can be ended whatever it is stuck in."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from obms.backup import Backups
from obms.backup.drill_report import Drill, last_drill
from obms.backup.run import Record, read_record, record
from obms.backup.schedule import LOOK, guard
from obms.backup.time_limit import GRACE_SECONDS, LAST_WORDS_SECONDS
from obms.errors import LockHeld, ObmsError, RunLost, RunTimedOut, StorageFailed
from obms.observe import Event

# It ends itself, and only if it cannot even do that is it killed.
SPARE_SECONDS = GRACE_SECONDS + LAST_WORDS_SECONDS + 10
END_SECONDS = 5.0
# It has told of these itself. 1 is a bug, and with 2 it ended before it could tell anybody.
TOLD = range(3, 11)

T = TypeVar("T")


def run_in_child(
    backups: Backups,
    command: Sequence[str],
    *,
    look: Callable[[], object] = lambda: None,
    spare: float = SPARE_SECONDS,
) -> None:
    """Make one run by `command`; where it failed without a word and without a record, that is made here.

    LockHeld, which the child has told, where another run is at work.
    The child's standard input is a pipe of ours: it ends when we do.
    """

    def recorded() -> Record | None:
        return _as_far_as_it_can_be_read(lambda: read_record(backups.storage))

    began_at, before = backups.clock(), recorded()
    error = _do_in_child(backups, command, look, spare)
    if error is not None and recorded() == before:
        record(backups, began_at, {}, error=error)


def drill_in_child(
    backups: Backups,
    command: Sequence[str],
    *,
    look: Callable[[], object] = lambda: None,
    spare: float = SPARE_SECONDS,
) -> None:
    """Hold one drill by `command`; where it ended without a word and without a report, that is told here.

    LockHeld as there.
    """

    def reported() -> Drill | None:
        return _as_far_as_it_can_be_read(lambda: last_drill(backups.folder, backups.trusted))

    before = reported()
    error = _do_in_child(backups, command, look, spare)
    if error is not None and reported() == before:
        facts = {"error": str(error), "hint": error.hint, "exit_code": error.exit_code}
        backups.notify(Event(name="drill.done", ok=False, facts=facts))


def _as_far_as_it_can_be_read(read: Callable[[], T | None]) -> T | None:
    """A folder that cannot be read is the child's to tell of."""
    try:
        return read()
    except StorageFailed:
        return None


def _do_in_child(
    backups: Backups, command: Sequence[str], look: Callable[[], object], spare: float
) -> ObmsError | None:
    """What it failed by without having told of it, as far as its end tells."""
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0)
    try:
        _wait_for(child, backups.timeout, spare, look=lambda: guard(backups, "schedule.look_failed", look))
        if child.returncode == LockHeld.exit_code:
            raise LockHeld(folder=backups.folder)
        return _failure(child.returncode)
    except RunTimedOut as timed_out:
        return timed_out
    finally:
        _end(child)


def _wait_for(
    child: "subprocess.Popen[bytes]", timeout: timedelta, spare: float, *, look: Callable[[], object]
) -> None:
    """Until it has ended; RunTimedOut if it goes on after its time and what it needs to end itself."""
    began = time.monotonic()
    limit = timeout.total_seconds() + spare
    pause = LOOK.total_seconds()
    while True:
        left = limit - (time.monotonic() - began) if timeout else pause
        if left <= 0:
            raise RunTimedOut(limit=timeout, stage="a call that could not be interrupted")
        with suppress(subprocess.TimeoutExpired):
            child.wait(min(pause, left))
            return
        look()


def _failure(status: int) -> ObmsError | None:
    if status in (0, *TOLD):
        return None
    return RunLost(detail=f"it was killed by signal {-status}" if status < 0 else f"it ended with {status}")


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End it with all it started; what even then does not end waits for a disk, and is left to that."""
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(END_SECONDS)
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            child.wait(END_SECONDS)
    assert child.stdin is not None
    child.stdin.close()
