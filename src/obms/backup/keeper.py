"""What one process does for a backup folder, and whether one does: it holds a lock that ends with it."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from obms import private

SCHEDULE = ".schedule"  # held by the process that keeps the schedule
WATCH = ".watch"  # held by the one that looks whether there is a fresh backup


def holding(folder: Path, name: str) -> Callable[[], bool]:
    """Each time it is called it tells whether no other process holds `name`, and takes it if it is free.

    It is held until the process ends, however that is. Where the folder takes no lock nobody holds it.
    """
    lock = FileLock(folder / name, timeout=0, fallback_to_soft=False, preserve_lock_file=True)

    def hold() -> bool:
        if lock.is_locked:
            return True
        try:
            private.make_folder(folder)
            os.close(private.open_file(folder / name, os.O_RDWR))  # for the folder's owner, whoever makes it
            lock.acquire()
        except Timeout:
            return False
        except OSError:  # what is wrong with the folder, a run tells
            return True
        return True

    return hold


def is_held(folder: Path, name: str) -> bool:
    """Whether a process is seen to hold it; to ask takes no right to write there."""
    try:
        with (folder / name).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or it may not be looked at
        return False
    return False
