"""Whether a process keeps the schedule: a file that it touches each time it looks at the clock."""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from obms import private
from obms.backup import Backups

FILE = ".schedule"
# The clock is looked at every half minute, also while a run is at work.
FRESH = timedelta(minutes=3)


def keeping(backups: Backups, look: Callable[[], None]) -> Callable[[], None]:
    """The same look, which leaves the mark; it is left at once, too."""

    def look_and_mark() -> None:
        _mark(backups)
        look()

    _mark(backups)
    return look_and_mark


def is_kept(folder: Path, now: datetime) -> bool:
    """Whether a process has looked at the clock just now."""
    try:
        touched = datetime.fromtimestamp((folder / FILE).stat().st_mtime, UTC)
    except FileNotFoundError:
        return False
    return abs(now - touched) < FRESH


def _mark(backups: Backups) -> None:
    now = backups.clock().timestamp()
    with suppress(OSError):  # a run that is due tells what is wrong with the folder
        private.make_folder(backups.folder)
        (backups.folder / FILE).touch()
        os.utime(backups.folder / FILE, (now, now))
