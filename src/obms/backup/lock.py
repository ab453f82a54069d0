"""One run at a time: a lock that ends with its process, however that ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from obms import private
from obms.backup import Backups
from obms.backup.storage import Folder
from obms.errors import LockHeld, StorageFailed
from obms.observe import Event


@contextmanager
def locked(backups: Backups) -> Iterator[None]:
    """Hold the lock of the folder; LockHeld, and an event, if another run has it."""
    folder = backups.folder
    try:
        private.make_folder(folder)
        lock = _lock_of(folder)
        lock.acquire()
    except Timeout as error:
        backups.notify(Event(name="backup.refused", ok=False, facts={"folder": str(folder)}))
        raise LockHeld(folder=folder) from error
    except OSError as error:
        raise StorageFailed(detail=f"{folder}: {error.strerror or error}") from error
    try:
        Folder(folder).sweep()
        yield
    finally:
        lock.release()


def is_held(backups: Backups) -> bool:
    """Whether a run is at work; asks without a word. What else is wrong there, the next run tells."""
    try:
        with _lock_of(backups.folder):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder / ".lock", timeout=0, fallback_to_soft=False, preserve_lock_file=True)
