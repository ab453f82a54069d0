"""Putting a SQLite file in the place of another one that cannot be written into any more."""

import errno
import os
import shutil
from contextlib import closing, suppress
from datetime import UTC, datetime
from glob import escape
from pathlib import Path
from uuid import uuid4

from pysqlite3 import dbapi2 as sqlite3

from obms import private
from obms.databases.sqlite_snapshot import JOURNAL_END, LOG_END, SIDE_FILES, beside, connect
from obms.errors import StorageFailed

FRESH_END = ".restoring"


def put_in_place(copy: Path, path: Path) -> str | None:
    """Move the database at `copy`, which nobody has open, to `path`; the new place of what stood there.

    StorageFailed, and what SQLite raises, when that fails.
    """
    aside = None
    private.make_folder(path.parent)
    fresh = path.with_name(f".{path.name}.{uuid4().hex}{FRESH_END}")
    try:
        _move_content(copy, fresh)
        _give(fresh, path)
        _sync(fresh)
        aside = _set_aside(path)
        fresh.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise StorageFailed(detail=f"{path.parent}: {error.strerror or error}") from error
    finally:
        for left in path.parent.glob(f"{escape(fresh.name)}*"):
            left.unlink()
    return aside


def _give(fresh: Path, path: Path) -> None:
    """To whom the old file belonged, or else to whom the folder does: the server may not run as root."""
    if path.exists():
        shutil.copymode(path, fresh)
    elif not private.is_shared(path.parent):
        fresh.chmod(0o600)
    like = (path if path.exists() else path.parent).stat()
    with suppress(PermissionError):  # only root may
        shutil.chown(fresh, like.st_uid, like.st_gid)


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


def discard_empty(path: Path) -> bool:
    """Remove the database at `path`, which nobody uses any more, if nothing was ever in it; whether it was.

    Nothing is written to one that holds something: of a damaged one each byte may be wanted.
    """
    if any(beside(path, end).exists() and beside(path, end).stat().st_size for end in (LOG_END, JOURNAL_END)):
        return False
    if path.stat().st_size and not _is_without_content(path):
        return False
    for end in ("", *SIDE_FILES):
        beside(path, end).unlink(missing_ok=True)
    return True


def _is_without_content(path: Path) -> bool:
    """Whether it is one page in which nothing is named: that of a dropped table would be there still."""
    try:
        with closing(connect(path, mode="ro&immutable=1")) as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            return bool(
                pages == 1 and not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            )
    except sqlite3.DatabaseError:
        return False


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
