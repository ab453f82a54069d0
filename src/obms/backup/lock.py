"""One run at a time: a lock that ends with its process, however that ends."""

from collections.abc import Iterator
from contextlib import contextmanager

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
        lock = FileLock(folder / ".lock", timeout=0, fallback_to_soft=False, preserve_lock_file=True)
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
