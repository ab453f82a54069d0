"""Databases of each kind to try the seam on."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import Self

import pytest
import sqlalchemy as sa

from obms.databases import Database, Snapshot, writing
from obms.databases.sqlite import Sqlite
from obms.databases.sqlite_snapshot import connect
from obms.schema import audit_events, images
from obms.schema import metadata as schema
from tests.deployment import Deployment

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def no_carry(_old: sa.Connection, _new: sa.Connection) -> int:
    return 0


def give_pages_of(database: Sqlite, size: int) -> None:
    """As another program, or an older one, has made them."""
    database.engine.dispose()
    with closing(connect(database.path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute(f"PRAGMA page_size={size}")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode=WAL")
        assert connection.execute("PRAGMA page_size").fetchone() == (size,)


def take(database: Database, image: Path) -> Snapshot:
    """Write the image of this moment to a file."""
    with database.snapshot() as snapshot:
        image.write_bytes(b"".join(snapshot.chunks()))
        snapshot.facts()
    return snapshot


def count(database: Database, table: str) -> int:
    with database.engine.connect() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


def add_image(database: Database, id: str, content: bytes = b"x") -> None:
    with writing(database.engine) as connection:
        add_image_row(connection, id, content)


def add_image_row(connection: sa.Connection, id: str, content: bytes = b"x") -> None:
    row = {"id": id, "name": id, "media_type": "image/png", "content": content, "created_at": MOMENT}
    connection.execute(sa.insert(images), row)


def copy_rows(source: Database, target: Database) -> None:
    with source.engine.connect() as old, writing(target.engine) as new:
        for table in schema.sorted_tables:
            rows = [dict(row) for row in old.execute(sa.select(table)).mappings()]
            if rows:
                new.execute(sa.insert(table), rows)


@pytest.fixture
def stock(stocked: Deployment) -> Database:
    """A database of each kind with badges in it."""
    return stocked.database


@pytest.fixture
def both(sqlite: Deployment, postgresql: Deployment) -> tuple[Database, Database]:
    """A SQLite and a PostgreSQL database with the same rows."""
    sqlite.seed()
    with writing(sqlite.database.engine) as connection:
        add_image_row(connection, "every byte", bytes(range(256)))
        connection.execute(
            sa.update(images).where(images.c.id == "every byte").values(name="Zoë 徽章 🏅 'x' ~ 3:")
        )
    copy_rows(sqlite.database, postgresql.database)
    return sqlite.database, postgresql.database


Write = Callable[[sa.Connection, str], None]


class Writers:
    """Threads that `write` in a transaction each time (two tables), until they are told to stop."""

    def __init__(self, database: Database, threads: int = 2, write: Write | None = None) -> None:
        self.database = database
        self.write = write or write_pair
        self.over = Event()
        self.done = 0
        self.failures: list[Exception] = []
        self.waits: list[float] = []
        self.threads = [Thread(target=self._write, args=(number,)) for number in range(threads)]

    def _write(self, number: int) -> None:
        step = 0
        while not self.over.is_set():
            step += 1
            started = perf_counter()
            try:
                with writing(self.database.engine) as connection:
                    self.write(connection, f"{number}-{step}")
            except Exception as error:  # noqa: BLE001 - told to the test
                self.failures.append(error)
                return
            self.waits.append(perf_counter() - started)
            self.done += 1

    def wrote(self, least: int) -> bool:
        """Whether more than so many were written; a writer that failed ends the waiting too."""
        return self.done > least or bool(self.failures)

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


def write_pair(connection: sa.Connection, id: str) -> None:
    add_image_row(connection, id)
    write_event(connection, id)


def write_event(connection: sa.Connection, id: str) -> None:
    row = {"at": MOMENT, "actor": "test", "action": "pair", "subject": id}
    connection.execute(sa.insert(audit_events), row)


@pytest.fixture
def writers(database: Database) -> Iterator[Writers]:
    with Writers(database) as running:
        yield running
