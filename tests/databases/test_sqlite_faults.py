"""What a SQLite database does that is damaged, gone, locked or on a full disk: it is said as what it is."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from pysqlite3 import dbapi2 as sqlite3

from obms.databases import sqlite_snapshot, writing
from obms.databases.contents import dropped_if_empty, holds_nothing
from obms.databases.quick_check import Wholeness, quick_check
from obms.databases.retiring import fenced
from obms.databases.sqlite import PAGE_SIZE, Sqlite
from obms.databases.sqlite_place import put_in_place
from obms.databases.sqlite_snapshot import connect, pin_fenced
from obms.errors import DatabaseDamaged, DatabaseMissing, DatabaseUnreachable, StorageFailed
from tests.databases.conftest import add_image, count, no_carry, take
from tests.deployment import Deployment
from tests.real_faults import fill_disk, read_only_view, small_disk


@pytest.fixture
def live(stocked_sqlite: Deployment) -> Sqlite:
    assert isinstance(stocked_sqlite.database, Sqlite)
    return stocked_sqlite.database


@pytest.fixture
def pooled(live: Sqlite) -> Iterator[Sqlite]:
    """The same, as a server has it."""
    found = Sqlite(live.path, work=live.work, pooled=True)
    yield found
    found.engine.dispose()


def damage(live: Sqlite) -> None:
    """The rows of one table, and not the schema."""
    live.engine.dispose()
    with closing(connect(live.path)) as connection:
        root = "SELECT rootpage FROM sqlite_master WHERE name = 'revocations'"
        page, size = (connection.execute(query).fetchone()[0] for query in (root, "PRAGMA page_size"))
    content = bytearray(live.path.read_bytes())
    content[(page - 1) * size : page * size] = os.urandom(size)
    live.path.write_bytes(content)


def test_what_is_damaged_is_told_from_what_is_whole(live: Sqlite) -> None:
    assert not live.damaged()
    damage(live)
    assert live.exists()
    assert live.damaged()
    with pytest.raises(DatabaseDamaged):
        live.facts()


def test_what_cannot_be_opened_is_not_damaged(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "none.db", work=tmp_path)
    assert not database.damaged()
    with pytest.raises(DatabaseMissing):
        database.problems()


def test_what_cannot_be_read_is_not_taken_for_empty(live: Sqlite) -> None:
    live.engine.dispose()
    live.path.write_bytes(b"no database" * 1000)
    assert not holds_nothing(live.engine)


def test_what_cannot_be_dropped_stays(tmp_path: Path) -> None:
    def refuse() -> None:
        raise StorageFailed(detail="the disk is read-only")

    database = Sqlite(tmp_path / "empty.db", work=tmp_path)
    database.create()
    assert holds_nothing(database.engine)
    assert not dropped_if_empty(database.engine, refuse)


def test_an_empty_file_is_not_taken_for_a_database(live: Sqlite) -> None:
    live.engine.dispose()
    live.path.write_bytes(b"")
    with pytest.raises(DatabaseDamaged, match="empty"):
        live.facts()


def test_a_connection_that_was_kept_is_not_used_for_another_file(pooled: Sqlite) -> None:
    assert count(pooled, "images") == 8
    shutil.copy(pooled.path, pooled.path.with_name("copy"))
    pooled.path.with_name("copy").replace(pooled.path)
    add_image(pooled, "new")
    with closing(connect(pooled.path)) as stranger:
        assert stranger.execute("SELECT count(*) FROM images").fetchone() == (9,)


def test_a_connection_that_was_kept_is_not_used_for_a_file_that_is_gone(pooled: Sqlite) -> None:
    assert count(pooled, "images") == 8
    pooled.path.unlink()
    with pytest.raises(sa.exc.OperationalError, match="unable to open"):
        count(pooled, "images")


def test_a_restore_that_another_process_locks_out_is_told(
    live: Sqlite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(live, tmp_path / "image")
    live.engine.dispose()
    monkeypatch.setattr(sqlite_snapshot, "BUSY_SECONDS", 0.05)
    with live.scratch() as copy:
        copy.load(tmp_path / "image")
        with closing(connect(live.path)) as other:
            other.execute("PRAGMA locking_mode=EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(DatabaseUnreachable, match="locked"):
                live.replace(copy, no_carry)
    assert count(live, "images") == 8


def test_a_restore_waits_for_a_writer_as_long_as_it_is_told(
    live: Sqlite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(live, tmp_path / "image")
    monkeypatch.setattr(sqlite_snapshot, "BUSY_SECONDS", 0.01)
    live.writer_seconds = 0.6
    began = time.monotonic()
    with closing(connect(live.path)) as writer, live.scratch() as copy:
        writer.execute("BEGIN IMMEDIATE")
        copy.load(tmp_path / "image")
        with pytest.raises(DatabaseUnreachable, match=r"kept .* locked"):
            live.replace(copy, no_carry)
    assert time.monotonic() - began > 0.6


def test_a_copy_that_is_gone_is_not_put_in_place(live: Sqlite) -> None:
    live.engine.dispose()
    live.path.unlink()
    with live.scratch() as copy, pytest.raises(DatabaseMissing):
        live.replace(copy, no_carry)
    assert not live.path.exists()


def test_damage_that_is_met_in_the_midst_of_a_table_is_damage(live: Sqlite) -> None:
    needle = b"needle" * 600
    for number in range(20):
        add_image(live, f"{number}", needle)
    with closing(connect(live.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    live.engine.dispose()
    content = bytearray(live.path.read_bytes())
    page = content.rindex(needle) // PAGE_SIZE * PAGE_SIZE
    content[page : page + PAGE_SIZE] = b"\xff" * PAGE_SIZE
    live.path.write_bytes(content)
    with pytest.raises(DatabaseDamaged, match="malformed"):
        live.facts()


def test_a_name_that_is_too_long_is_told_where_a_file_is_put_in_place(live: Sqlite, tmp_path: Path) -> None:
    live.engine.dispose()
    with pytest.raises(StorageFailed, match="too long"):
        put_in_place(live.path, tmp_path / ("x" * 230))
    assert live.exists()


def test_a_carry_that_breaks_a_rule_of_the_database_changes_nothing(live: Sqlite, tmp_path: Path) -> None:
    take(live, tmp_path / "image")
    add_image(live, "later")

    def carry(_old: sa.Connection, new: sa.Connection) -> int:
        return new.exec_driver_sql("INSERT INTO images SELECT * FROM images").rowcount

    with live.scratch() as copy:
        copy.load(tmp_path / "image")
        with pytest.raises(DatabaseUnreachable, match="UNIQUE"):
            live.replace(copy, carry)
    assert count(live, "images") == 9


def test_a_writer_who_fails_behind_the_fence_is_told_as_an_error_of_the_database(live: Sqlite) -> None:
    with pytest.raises(DatabaseUnreachable, match="no such table"), fenced(live) as fence:
        fence.exec_driver_sql("DELETE FROM nowhere")


def test_a_snapshot_of_a_database_that_is_locked_is_told(
    live: Sqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.engine.dispose()
    monkeypatch.setattr(sqlite_snapshot, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(sqlite_snapshot, "FENCE_MILLISECONDS", 50)
    with closing(connect(live.path)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnreachable, match="locked"), live.snapshot():
            raise AssertionError("there is no moment to be had")


def test_a_checkpoint_of_another_that_goes_on_is_not_waited_for_long(
    live: Sqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_snapshot, "BUSY_CHECKPOINT_SECONDS", 0.05)
    add_image(live, "in the WAL")

    class Busy:
        """A connection whose checkpoints are those of another process."""

        def __init__(self, reader: sqlite3.Connection) -> None:
            self.reader = reader

        def execute(self, statement: str) -> sqlite3.Cursor:
            busy = "SELECT 1, 0, 0"
            return self.reader.execute(busy if "checkpoint" in statement else statement)

        def rollback(self) -> None:
            self.reader.rollback()

    with closing(connect(live.path)) as reader:
        assert not pin_fenced(live.path, Busy(reader))


def looked_at(path: Path) -> Wholeness:
    """As a connection sees it that has asked for nothing before."""
    engine = sa.create_engine(
        "sqlite://",
        module=sqlite3,
        creator=lambda: sqlite3.connect(path, timeout=0),
        poolclass=sa.NullPool,
    )
    with engine.connect() as connection:
        return quick_check(connection, timedelta(seconds=60))


def test_a_look_that_finds_the_database_locked_finds_nothing_out(live: Sqlite) -> None:
    live.engine.dispose()
    with closing(connect(live.path)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sa.exc.OperationalError, match="locked"):
            looked_at(live.path)


def test_a_look_at_what_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database at all " * 500)
    assert looked_at(tmp_path / "x.db").problems == ("file is not a database",)


def test_a_full_disk_is_told_where_a_file_is_put_in_place(live: Sqlite, tmp_path: Path) -> None:
    live.engine.dispose()
    disk = tmp_path / "disk"
    with small_disk(disk, 200) as mounted:
        if not mounted:
            pytest.skip("this user may mount no disk")
        fill_disk(disk, leave=20_000)
        with pytest.raises(StorageFailed, match="No space left"):
            put_in_place(live.path, disk / "openbadges.db")
        assert [path.name for path in disk.iterdir()] == ["ballast"]


def test_a_folder_that_cannot_be_written_is_told_where_a_file_is_put_in_place(
    live: Sqlite, tmp_path: Path
) -> None:
    live.engine.dispose()
    (tmp_path / "folder").mkdir()
    with (
        read_only_view(tmp_path / "folder", tmp_path / "view") as view,
        pytest.raises(StorageFailed, match=r"Read-only|denied"),
    ):
        put_in_place(live.path, view / "openbadges.db")
    assert live.path.exists()


def test_a_copy_that_somebody_reads_is_copied_once_more(live: Sqlite, tmp_path: Path) -> None:
    live.engine.dispose()
    with closing(connect(live.path)) as reader:
        reader.execute("PRAGMA busy_timeout=0")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM images").fetchone()
        with writing(live.engine) as connection:
            connection.exec_driver_sql("DELETE FROM images")
        assert put_in_place(live.path, tmp_path / "new.db") is None
        assert reader.execute("SELECT count(*) FROM images").fetchone() == (8,)
    with closing(connect(tmp_path / "new.db")) as fresh:
        assert fresh.execute("SELECT count(*) FROM images").fetchone() == (0,)


def test_in_the_folder_of_a_group_the_file_is_left_to_the_group(live: Sqlite, tmp_path: Path) -> None:
    live.engine.dispose()
    live.path.chmod(0o644)
    (tmp_path / "group").mkdir()
    (tmp_path / "group").chmod(0o2775)
    put_in_place(live.path, tmp_path / "group" / "openbadges.db")
    assert (tmp_path / "group" / "openbadges.db").stat().st_mode & 0o777 == 0o644
