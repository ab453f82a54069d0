"""Putting a SQLite file in the place of another one."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from obms.databases.sqlite_snapshot import SIDE_FILES, beside, connect
from obms.errors import StorageFailed

FRESH_END = ".restoring"
# What SQLite locks of a database file ("The Lock-Byte Page" of its file format): the byte that who
# comes anew asks for, the one of a writer, and those on which each process keeps a shared lock for
# as long as it has a database in WAL mode open.
PENDING_BYTE = 0x40000000
SHARED_FIRST, SHARED_SIZE = PENDING_BYTE + 2, 510
REPLACED = b"This database was replaced by a restore.".ljust(4096, b"\0")


def put_in_place(copy: Path, path: Path) -> str | None:
    """Move the database at `copy`, which nobody has open, to `path`; the new place of what stood there.

    StorageFailed, and what SQLite raises, when that fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside_it(copy, path) as fresh:
        aside = _set_aside(path)
        fresh.replace(path)
        _sync(path.parent)
    return aside


@contextmanager
def alone(path: Path) -> Iterator[int | None]:
    """A descriptor of the database while no other process can open it; None where one has it open.

    For who has it open himself, in WAL mode. The descriptor stays open: closing it would drop all
    locks that SQLite has on this file in this process (POSIX advisory locks belong to the process).
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 2 + SHARED_SIZE, PENDING_BYTE)
    except (BlockingIOError, PermissionError):
        yield None
        return
    try:
        yield descriptor
    finally:
        if not os.fstat(descriptor).st_nlink:  # it was replaced, and nobody needs a lock of it
            os.close(descriptor)
        else:  # as SQLite left it
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 2, PENDING_BYTE)
            fcntl.lockf(descriptor, fcntl.LOCK_SH, SHARED_SIZE, SHARED_FIRST)


def swap(copy: Path, path: Path, descriptor: int) -> None:
    """Move the database at `copy`, which nobody has open, to `path`, in one step.

    For who is alone with the database there, has its write lock, and has emptied its WAL into it.
    What may have opened the old file without reading it finds no database in it.
    """
    with _beside_it(copy, path) as fresh:
        for end in SIDE_FILES:
            beside(path, end).unlink(missing_ok=True)
        _sync(path.parent)  # the old WAL must never meet the new file, whenever the power fails
        fresh.replace(path)
        _sync(path.parent)
        os.pwrite(descriptor, REPLACED, 0)
        os.ftruncate(descriptor, len(REPLACED))


@contextmanager
def _beside_it(copy: Path, path: Path) -> Iterator[Path]:
    """The content of `copy` as a durable file beside `path`, open to whom that one is."""
    fresh = path.with_name(f".{path.name}.{uuid4().hex}{FRESH_END}")
    try:
        _move_content(copy, fresh)
        if path.exists():
            _resemble(fresh, path)
        _sync(fresh)
        yield fresh
    except OSError as error:
        raise StorageFailed(detail=f"{path.parent}: {error.strerror or error}") from error
    finally:
        for left in (fresh, *(beside(fresh, end) for end in SIDE_FILES)):
            left.unlink(missing_ok=True)


def _resemble(fresh: Path, path: Path) -> None:
    with suppress(PermissionError):  # not ours to give
        shutil.chown(fresh, path.stat().st_uid, path.stat().st_gid)
    shutil.copymode(path, fresh)


def _set_aside(path: Path) -> str | None:
    """Keep what stands at the path, whole, before it is taken apart: it may be killed at any moment.

    The old WAL must never meet the new file, nor the old file be read without it.
    """
    stamp = datetime.now(UTC).strftime("%Y-%m-%d_%H-%M-%S")
    aside = path.with_name(f"{path.name}.set-aside-{stamp}-{uuid4().hex[:4]}")
    present = [end for end in ("", *SIDE_FILES) if beside(path, end).exists()]
    for end in present:
        with suppress(FileNotFoundError):  # whoever used the database has just ended
            _keep(beside(path, end), beside(aside, end))
    _sync(path.parent)
    if present != [""]:
        for end in present:
            beside(path, end).unlink(missing_ok=True)
    return str(aside) if aside.exists() else None


def _move_content(copy: Path, fresh: Path) -> None:
    """Give the database at `copy` the name `fresh`; a copy, on another disk or mount of the same."""
    with closing(connect(copy)) as source:
        busy = source.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            with closing(connect(fresh, mode="rwc")) as target:
                source.backup(target)
            return
    try:
        copy.rename(fresh)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(copy, fresh)


def _keep(path: Path, name: Path) -> None:
    """Give the file a second name; a copy, where the file system has no hard links."""
    try:
        name.hardlink_to(path)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(path, name)
        _sync(name)


def _sync(path: Path) -> None:
    # Only for files that no connection of this process has open: closing drops SQLite's locks.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
