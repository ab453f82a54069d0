"""SQLite as a Database: the image is the file itself."""

import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from pysqlite3 import dbapi2 as sqlite3
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError

from obms import private
from obms.databases import Carry, Database, Facts, Label, digests, no_label
from obms.databases.digests import read_facts
from obms.databases.sqlite_errors import DAMAGE, code, failure, image_errors, lacks_a_table, live_errors
from obms.databases.sqlite_place import FRESH_END, discard_empty, put_in_place
from obms.databases.sqlite_snapshot import (
    SqliteSnapshot,
    beside,
    connect,
    pin,
    pin_fenced,
    read_revision,
    unwritten,
)
from obms.databases.sqlite_watch import SqliteWatch
from obms.databases.watching import Watch
from obms.errors import (
    BackupDamaged,
    DatabaseDamaged,
    DatabaseMissing,
    DatabaseUnreachable,
    StorageFailed,
)

MAGIC = b"SQLite format 3\x00"
# A badge of 5 KB lies in one page, where it would need a second one of the usual 4096 bytes; and what goes by
# pages, as a restore over a live database does, takes half of the time.
PAGE_SIZE = 16384
STEP_PAGES = 1024
WRITER_SECONDS = 20.0
NOT_SEARCHED = "Run it as the user of the server, or give this one the right to its folder."
NOT_MADE = "Check SQLITE_FILE, and the free space and permissions of its folder."


def is_image(head: bytes) -> bool:
    """Whether a file that starts with `head` is a SQLite database."""
    return head.startswith(MAGIC)


class Sqlite:
    """The database in the file `path`; `work` is a folder for scratch copies.

    `pooled` keeps connections open between uses, for who uses many and disposes of the engine.
    """

    kind = "sqlite"

    def __init__(self, path: Path, *, work: Path, pooled: bool = False) -> None:
        self.path = path.resolve()  # where SQLite keeps its files beside a linked one
        self.work = work
        self.writer_seconds = WRITER_SECONDS
        self._onlooker: Any = None  # of `overtaken`; `replace` closes it before it moves files
        self._fenced = False  # while `carry` runs under the write lock of `replace`
        self.engine = self._open_engine(sa.QueuePool if pooled else sa.NullPool)

    def _open_engine(self, pool: type[sa.Pool]) -> sa.Engine:
        engine = sa.create_engine(
            "sqlite+pysqlite://",
            module=sqlite3,
            creator=lambda: connect(self.path),
            poolclass=pool,
            json_serializer=digests.canonical_json,
            hide_parameters=True,  # names and keys of people stand in statements, and errors in logs
        )
        event.listen(engine, "connect", self._on_connect)
        event.listen(engine, "checkout", self._on_checkout)
        event.listen(engine, "begin", _begin)
        return engine

    def _on_connect(self, connection: Any, record: Any) -> None:
        record.info["file"] = _identity(self.path)
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA journal_mode=WAL")

    def _on_checkout(self, _connection: Any, record: Any, _proxy: Any) -> None:
        # A connection to a file that was removed or replaced would write into nowhere.
        if record.info["file"] != _identity(self.path):
            raise DisconnectionError

    @property
    def folder(self) -> Path | None:
        return self.path.parent if self.path.parent.is_dir() else None

    def create(self) -> None:
        """An empty database, where there is none."""
        try:
            private.make_folder(self.path.parent)
            with suppress(FileExistsError):  # SQLite's own files beside it take its mode
                os.close(private.make_file(self.path, os.O_RDWR))
            with closing(connect(self.path, mode="rwc")) as connection:
                connection.execute(f"PRAGMA page_size={PAGE_SIZE}")  # one that is there keeps its own
                connection.execute("PRAGMA journal_mode=WAL")
        except OSError as error:
            detail = f"{error.filename or self.path}: {error.strerror or error}"
            raise StorageFailed(detail=detail, hint=NOT_MADE) from error
        except sqlite3.DatabaseError as error:
            raise failure(error, self.path) from error

    def exists(self) -> bool:
        # An empty file is not even opened: SQLite would remove the WAL that lies beside it.
        if not self._is_file() or not self.path.stat().st_size:
            return False
        try:
            with closing(connect(self.path)) as connection:
                return read_revision(connection) is not None
        except sqlite3.DatabaseError as error:
            if code(error) in DAMAGE:
                return False
            # One that is busy, or may not be opened, is there all the same.
            raise DatabaseUnreachable(detail=f"{self.path}: {error}") from error

    def damaged(self) -> bool:
        try:
            with closing(connect(self.path)) as connection:
                return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
        except sqlite3.DatabaseError as error:
            return code(error) in DAMAGE

    @contextmanager
    def snapshot(self) -> Generator[SqliteSnapshot]:
        if not self._is_file():
            raise DatabaseMissing(name=self.path)
        self._require_content()
        with live_errors(self.path):
            if not os.access(self.path.parent, os.W_OK):
                with unwritten(self.path) as reader:
                    yield SqliteSnapshot(path=self.path, reader=reader)
                return
            with closing(connect(self.path)) as reader:
                if (pin_fenced if self._fenced else pin)(self.path, reader):
                    yield SqliteSnapshot(path=self.path, reader=reader)
                    return
                with self.scratch() as copy, closing(connect(copy.path, mode="rwc")) as target:
                    reader.backup(target, progress=self._patience())
                    yield SqliteSnapshot(path=copy.path, reader=target)

    @contextmanager
    def scratch(self) -> Iterator["Sqlite"]:
        private.make_folder(self.work)
        with TemporaryDirectory(dir=self.work, prefix="scratch-") as folder:
            copy = Sqlite(Path(folder) / "scratch.db", work=self.work, pooled=True)
            event.listen(copy.engine, "connect", _on_connect_to_scratch)
            try:
                yield copy
            finally:
                copy.engine.dispose()

    def load(self, image: Path) -> None:
        _require_whole_pages(image, self.path.name)
        image.replace(self.path)
        with image_errors(self.path), closing(connect(self.path)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master")
            connection.execute(
                "PRAGMA journal_mode=WAL"
            )  # so that the connections to come need not agree on it

    def loads_alike(self, server_version: str) -> bool:
        return True

    def size(self) -> int:
        files = (self.path, beside(self.path, "-wal"))
        return sum(path.stat().st_size for path in files if path.is_file())

    def facts(self, *, digests: bool = True) -> Facts:
        self._require_content()
        try:
            with self.engine.connect() as connection:
                return read_facts(connection, deep=digests)
        except DBAPIError as error:
            raise failure(error, self.path) from error

    def _require_content(self) -> None:
        """Of an empty file SQLite makes a database without a table, which would pass for what was lost."""
        if self._is_file() and not self.path.stat().st_size:
            raise DatabaseDamaged(name=self.path, detail="the file is empty", hint=DatabaseMissing.hint)

    def _is_file(self) -> bool:
        try:
            return self.path.is_file()
        except OSError as error:  # its folder may not be searched
            detail = f"{self.path}: {error.strerror}"
            raise DatabaseUnreachable(detail=detail, hint=NOT_SEARCHED) from error

    def problems(self) -> tuple[str, ...]:
        try:
            with self.engine.connect() as connection:
                return _find_problems(connection)
        except DBAPIError as error:
            raise failure(error, self.path) from error

    def replace(
        self, scratch: Database, carry: Carry, *, label: Label = no_label, whole: bool = False
    ) -> str | None:
        assert isinstance(scratch, Sqlite)
        if self.exists():
            try:
                if whole:
                    self._carry_only(scratch, carry)
                else:
                    self._overwrite(scratch, carry)
                    return None
            except (sqlite3.DatabaseError, DBAPIError) as error:
                if code(error) not in DAMAGE and not lacks_a_table(error):
                    raise failure(error, self.path) from error
        scratch.engine.dispose()
        if self._onlooker is not None:  # as the last to close the old file it would remove the new one's WAL
            self._onlooker.close()
        try:
            aside = put_in_place(scratch.path, self.path)
        except sqlite3.DatabaseError as error:
            raise failure(error, self.path) from error
        return None if aside and discard_empty(Path(aside)) else aside

    @contextmanager
    def overtaken(self) -> Iterator[Callable[[], bool]]:
        with live_errors(self.path):
            self._onlooker = connect(self.path)
            before = _data_version(self._onlooker)
        with closing(self._onlooker):
            yield lambda: _data_version(self._onlooker) != before

    def _carry_only(self, scratch: "Sqlite", carry: Carry) -> None:
        with self.engine.connect() as old, scratch.engine.begin() as new:
            carry(old, new)

    def _overwrite(self, scratch: "Sqlite", carry: Carry) -> None:
        """Write every page through SQLite's online backup: one transaction of the live database.

        The first step takes the write lock of the target, so what `carry` then reads of the old
        content is final; what it changes in the source is copied by the steps that follow.
        """
        carried = False
        patience = self._patience()

        def bring_over(status: int, remaining: int, total: int) -> None:
            nonlocal carried
            patience(status, remaining, total)
            if status == sqlite3.SQLITE_OK and not carried:
                carried = self._fenced = True
                self._carry_only(scratch, carry)

        scratch.engine.dispose()  # what is open there would lock it
        with closing(connect(self.path)) as target:
            _match_page_size(scratch.path, target)
        with closing(connect(scratch.path)) as source, closing(connect(self.path)) as target:
            pages = source.execute("PRAGMA page_count").fetchone()[0]
            try:
                source.backup(target, pages=max(1, min(STEP_PAGES, pages // 2)), progress=bring_over)
            finally:
                self._fenced = False
            # It is done: whether the WAL can be emptied now changes nothing about that.
            with suppress(sqlite3.OperationalError):
                target.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _patience(self) -> Callable[[int, int, int], None]:
        """Ends an online backup that waits for a lock too long: by itself it would wait for ever."""
        deadline = time.monotonic() + self.writer_seconds

        def look(status: int, _remaining: int, _total: int) -> None:
            nonlocal deadline
            if status not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                deadline = time.monotonic() + self.writer_seconds
            elif time.monotonic() > deadline:
                raise DatabaseUnreachable(
                    detail=f"another process has kept {self.path} locked for {self.writer_seconds:.0f} s",
                    hint="End what is writing to it, and run it again. Nothing was changed.",
                )

        return look

    def watch(self, statement: str) -> Watch:
        return SqliteWatch(self.path, statement)

    def previous(self, label: str) -> None:
        """SQLite keeps the old content only as the safety backup."""

    def sweep(self) -> None:
        for path in self.work.glob("scratch-*"):
            shutil.rmtree(path)
        for path in self.path.parent.glob(f".{self.path.name}.*{FRESH_END}*"):
            path.unlink(missing_ok=True)

    def check_rights(self) -> None:
        """SQLite has no roles."""

    def check_tools(self) -> None:
        """SQLite needs no programs."""


def _require_whole_pages(image: Path, name: str) -> None:
    """BackupDamaged for a file that was cut within a page: SQLite may tell that as a failure of the disk."""
    with image.open("rb") as file:
        page = int.from_bytes(file.read(18)[16:], "big")
    size = image.stat().st_size
    if page and size % (65536 if page == 1 else page):
        raise BackupDamaged(
            name=name, detail=f"it is truncated: {size} bytes are not a whole number of pages"
        )


def _data_version(connection: Any) -> int:
    """Another number as soon as any other connection, of whatever process, has committed."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def _find_problems(connection: sa.Connection) -> tuple[str, ...]:
    damage = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check") if row[0] != "ok"]
    missing = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(10)
    return (*damage, *(f"{row[0]} row {row[1]} refers to a missing row of {row[2]}" for row in missing))


def _on_connect_to_scratch(connection: Any, _record: Any) -> None:
    # Nobody misses it after a crash; what is put in the place of the live file is made durable then.
    connection.execute("PRAGMA synchronous=OFF")


def _begin(connection: sa.Connection) -> None:
    # Python's driver would start a transaction at the first write only: reads would not be of one
    # moment. A writer takes its lock at once, so that it never fails half-way for a newer write.
    immediate = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _match_page_size(path: Path, target: Any) -> None:
    """A database in WAL mode keeps its page size: give the copy at `path` the same.

    By another file: a VACUUM in place would hold all of it in memory.
    """
    wanted = target.execute("PRAGMA page_size").fetchone()[0]
    other = beside(path, ".resized")
    with closing(connect(path)) as source:
        if source.execute("PRAGMA page_size").fetchone()[0] == wanted:
            return
        source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        source.execute(f"PRAGMA page_size={wanted}")
        source.execute("VACUUM INTO ?", (str(other),))
    other.replace(path)
    with closing(connect(path)) as resized:
        resized.execute("PRAGMA journal_mode=WAL")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
