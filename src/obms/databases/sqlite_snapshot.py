"""One moment of a SQLite database, read from the file itself while writers go on."""

import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pysqlite3 import dbapi2 as sqlite3

from obms.databases import Facts, digests
from obms.databases.processes import read_from
from obms.errors import BackupFailed, DatabaseUnreachable

# Gives a file to a pipe by its pages in memory, without a copy.
SPLICE = "import os, sys; f = os.open(sys.argv[1], os.O_RDONLY)\nwhile os.splice(f, 1, 1 << 20): pass"
LOG_END, JOURNAL_END = "-wal", "-journal"
SIDE_FILES = (LOG_END, "-shm", JOURNAL_END)
BUSY_SECONDS = 10.0
PIN_ATTEMPTS = 40
PIN_PAUSE = 0.05
BUSY_CHECKPOINT_SECONDS = 1.0
BUSY_CHECKPOINT_PAUSE = 0.002
FENCE_MILLISECONDS = 60_000
TABLES = (
    "SELECT name FROM sqlite_master WHERE type = 'table'"
    " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
)


def connect(path: Path, *, mode: str = "rw") -> Any:
    """A connection in autocommit mode; with `rw` a missing file is an error, never a new database."""
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteSnapshot:
    """A file that does not change, and the connection that sees the same moment of it."""

    path: Path
    reader: Any
    server_version: str = sqlite3.sqlite_version

    @property
    def revision(self) -> str | None:
        return read_revision(self.reader)

    @property
    def tools(self) -> Mapping[str, str]:
        return {"sqlite": sqlite3.sqlite_version}

    def chunks(self) -> Generator[bytes]:
        # A child reads the file: closing a descriptor of it here would drop every lock that
        # SQLite holds on it in this process (POSIX advisory locks belong to the process).
        command = [sys.executable, "-I", "-S", "-c", SPLICE, str(self.path)]
        return read_from(command, env=None, error=BackupFailed)

    def facts(self) -> Facts:
        names = [name for (name,) in self.reader.execute(TABLES) if name != digests.REVISION_TABLE]
        rows = {name: self.reader.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}  # noqa: S608
        return Facts(revision=self.revision, rows=rows)


def pin(path: Path, reader: Any) -> bool:
    """Make the file equal the newest committed state, and keep it so while `reader` reads.

    Once every frame of the WAL is in the file, a reader that starts there keeps each later
    checkpoint from touching the file; writers go on in the WAL. The bulk of the frames is moved
    first, the last ones under the write lock, so that none is added in between.
    False when readers of older frames do not end, or the file may not be written.
    """
    with closing(connect(path)) as fence:
        # Among many writers SQLite is not fair: a turn may be long in coming.
        fence.execute(f"PRAGMA busy_timeout={FENCE_MILLISECONDS}")
        if fence.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            return False  # pragma: no cover - where processes cannot share memory
        for _ in range(PIN_ATTEMPTS):
            reader.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            fence.execute("BEGIN IMMEDIATE")
            pinned = pin_fenced(path, reader)
            fence.rollback()
            if pinned:
                return True
            # For the readers of older frames to end. SQLite's own way to wait would hold up writers.
            time.sleep(PIN_PAUSE)
    return False


def pin_fenced(path: Path, reader: Any) -> bool:
    """The same at once, for who has the write lock already."""
    moved = _move_last_frames(reader)
    reader.execute("BEGIN")
    if _size(reader) == path.stat().st_size and moved:
        return True
    reader.rollback()
    return False


def _move_last_frames(reader: Any) -> bool:
    """Whether every frame is in the file now; needs the write lock.

    A checkpoint of another process under way makes this one busy, and tells nothing: it is
    waited for, while the writers wait for us.
    """
    deadline = time.monotonic() + BUSY_CHECKPOINT_SECONDS
    while True:
        busy, frames, moved = reader.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if not busy:
            return bool(frames == moved)
        if time.monotonic() > deadline:
            return False
        time.sleep(BUSY_CHECKPOINT_PAUSE)


@contextmanager
def unwritten(path: Path) -> Iterator[Any]:
    """A reader of a database whose folder is read-only here, and which nobody else has open.

    SQLite shares a database in WAL mode through files beside it, so those files show a user;
    they are looked for before and after. DatabaseUnreachable when there is one.
    """
    _check_unused(path)
    before = path.stat()
    with closing(connect(path, mode="ro&immutable=1")) as reader:
        reader.execute("BEGIN")
        yield reader
        _check_unused(path)
        after = path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise BackupFailed(detail=f"{path} changed while it was read")


def _check_unused(path: Path) -> None:
    if any(beside(path, end).exists() for end in SIDE_FILES):
        raise DatabaseUnreachable(
            detail=f"{path} is in use, and its folder is read-only here",
            hint="Mount the folder of the database writable: SQLite shares it by files beside it.",
        )


def _size(reader: Any) -> int:
    """Bytes of the database as `reader` sees it; asking for them starts its read."""
    count, size = (reader.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(count * size)


def read_revision(connection: Any) -> str | None:
    """The schema revision, None where Alembic never was."""
    (known,) = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE name = ?", (digests.REVISION_TABLE,)
    ).fetchone()
    if not known:
        return None
    row = connection.execute(f"SELECT version_num FROM {digests.REVISION_TABLE}").fetchone()  # noqa: S608
    return row[0] if row else None


def beside(path: Path, end: str) -> Path:
    """The file that SQLite keeps beside the database under this ending."""
    return path.with_name(path.name + end)
