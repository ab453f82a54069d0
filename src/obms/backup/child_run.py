"""A scheduled run as a process of its own, which can be ended whatever it is stuck in."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta

from obms.backup import Backups
from obms.backup.drill_report import last_drill
from obms.backup.run import read_record, record
from obms.backup.schedule import LOOK, guard
from obms.backup.time_limit import GRACE_SECONDS, LAST_WORDS_SECONDS
from obms.errors import LockHeld, ObmsError, RunLost, RunTimedOut
from obms.observe import Event

# It ends itself, and only if it cannot even do that is it killed.
SPARE_SECONDS = GRACE_SECONDS + LAST_WORDS_SECONDS + 10
END_SECONDS = 5.0


def run_in_child(
    backups: Backups,
    command: Sequence[str],
    *,
    look: Callable[[], object] = lambda: None,
    spare: float = SPARE_SECONDS,
) -> None:
    """Make one run by `command`; it failed without leaving a record, and it is recorded here.

    LockHeld, which the child has told, where another run is at work.
    The child's standard input is a pipe of ours: it ends when we do.
    """
    began_at, before = backups.clock(), read_record(backups.storage)
    error = _do_in_child(backups, command, look, spare)
    if error is not None and read_record(backups.storage) == before:
        record(backups, began_at, {}, error=error)


def drill_in_child(
    backups: Backups,
    command: Sequence[str],
    *,
    look: Callable[[], object] = lambda: None,
    spare: float = SPARE_SECONDS,
) -> None:
    """Hold one drill by `command`; where it ended without a report, that is told here. LockHeld as there."""
    before = last_drill(backups.folder, backups.trusted)
    error = _do_in_child(backups, command, look, spare)
    if error is not None and last_drill(backups.folder, backups.trusted) == before:
        facts = {"error": str(error), "hint": error.hint, "exit_code": error.exit_code}
        backups.notify(Event(name="drill.done", ok=False, facts=facts))


def _do_in_child(
    backups: Backups, command: Sequence[str], look: Callable[[], object], spare: float
) -> ObmsError | None:
    """What it failed by, as far as its end tells."""
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
    if status == 0:
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
    if child.stdin is not None:
        child.stdin.close()
