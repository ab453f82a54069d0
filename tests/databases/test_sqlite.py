"""What is of SQLite alone: pinning the file under a reader, its side files, and what stands in the way."""

import os
import shutil
import sqlite3 as system_sqlite3
import subprocess
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Thread

import pytest
import sqlalchemy as sa

from obms.databases import writing
from obms.databases.sqlite import PAGE_SIZE, Sqlite
from obms.databases.sqlite_snapshot import connect
from obms.errors import BackupDamaged, BackupFailed, DatabaseMissing, DatabaseUnreachable
from tests.databases.conftest import add_image, count, give_pages_of, no_carry, take
from tests.deployment import Deployment
from tests.real_faults import mount, read_only_view, wait_until


@pytest.fixture
def live(stocked_sqlite: Deployment) -> Sqlite:
    assert isinstance(stocked_sqlite.database, Sqlite)
    return stocked_sqlite.database


def test_the_image_is_the_file_itself(live: Sqlite, tmp_path: Path) -> None:
    take(live, tmp_path / "image")
    assert (tmp_path / "image").read_bytes() == live.path.read_bytes()


def test_rows_that_were_only_in_the_wal_are_in_the_image(live: Sqlite, tmp_path: Path) -> None:
    with closing(connect(live.path)) as reader:
        reader.execute("SELECT count(*) FROM images").fetchone()
        add_image(live, "in the WAL")
        assert b"in the WAL" not in live.path.read_bytes()
        take(live, tmp_path / "image")
    assert b"in the WAL" in (tmp_path / "image").read_bytes()


def test_while_it_is_read_the_file_does_not_change(live: Sqlite) -> None:
    with live.snapshot() as snapshot:
        before = live.path.read_bytes()
        for number in range(300):
            add_image(live, f"{number}", bytes(4000))
        assert live.path.read_bytes() == before
        assert b"".join(snapshot.chunks()) == before
        assert snapshot.facts().rows["images"] == 8
    assert count(live, "images") == 308


def test_a_reader_of_older_frames_makes_it_copy_instead(live: Sqlite, tmp_path: Path) -> None:
    """The file cannot be made to equal the newest state while somebody reads an older one from it."""
    with closing(connect(live.path)) as slow:
        slow.execute("BEGIN")
        assert slow.execute("SELECT count(*) FROM images").fetchone() == (8,)
        add_image(live, "later")
        with live.snapshot() as snapshot:
            assert snapshot.path != live.path
            (tmp_path / "image").write_bytes(b"".join(snapshot.chunks()))
            assert snapshot.facts().rows["images"] == 9
        assert slow.execute("SELECT count(*) FROM images").fetchone() == (8,)
    assert not list(live.work.glob("*"))
    with live.scratch() as copy:
        copy.load(tmp_path / "image")
        assert copy.facts() == live.facts()


def test_a_reader_that_ends_in_time_is_waited_for(live: Sqlite) -> None:
    with closing(connect(live.path)) as slow:
        slow.execute("BEGIN")
        slow.execute("SELECT count(*) FROM images").fetchone()
        add_image(live, "later")
        entered: list[Path] = []

        def enter() -> None:
            with live.snapshot() as snapshot:
                entered.append(snapshot.path)

        thread = Thread(target=enter)
        thread.start()
        slow.execute("SELECT count(*) FROM images").fetchone()
        slow.rollback()
        thread.join()
    assert entered == [live.path]


def test_a_database_without_wal_is_put_into_it(live: Sqlite, tmp_path: Path) -> None:
    live.engine.dispose()
    with closing(connect(live.path)) as connection:
        assert connection.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    take(live, tmp_path / "image")
    with closing(connect(live.path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_b5_a_missing_file_is_said_and_never_created(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "none.db", work=tmp_path / "work")
    assert not database.exists()
    with pytest.raises(DatabaseMissing, match=r"none\.db"), database.snapshot():
        raise AssertionError("there is no moment of what is not there")
    with pytest.raises(DatabaseUnreachable):
        database.facts()
    assert not (tmp_path / "none.db").exists()


def test_a_damaged_database_is_not_backed_up(live: Sqlite) -> None:
    live.engine.dispose()
    content = bytearray(live.path.read_bytes())
    content[PAGE_SIZE:60_000] = os.urandom(60_000 - PAGE_SIZE)
    live.path.write_bytes(content)

    def take_all() -> None:
        with live.snapshot() as snapshot:
            b"".join(snapshot.chunks())
            snapshot.facts()

    with pytest.raises(BackupFailed, match="damaged"):
        take_all()


def test_a_file_that_is_no_database_is_not_backed_up(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database at all " * 500)
    database = Sqlite(tmp_path / "x.db", work=tmp_path / "work")
    assert not database.exists()
    with pytest.raises(BackupFailed, match="file is not a database"), database.snapshot():
        raise AssertionError("there is no moment of what cannot be read")


def test_b7_an_unused_database_in_a_read_only_folder_is_backed_up(live: Sqlite, tmp_path: Path) -> None:
    live.engine.dispose()
    before = live.path.read_bytes()
    with read_only_view(live.path.parent, tmp_path / "view") as view:
        seen = Sqlite(view / live.path.name, work=tmp_path / "work")
        with seen.snapshot() as snapshot:
            assert b"".join(snapshot.chunks()) == before
            assert snapshot.facts().rows["credentials"] == 30
    assert [path.name for path in live.path.parent.iterdir()] == [live.path.name]


def test_b7_a_used_database_in_a_read_only_folder_is_refused(live: Sqlite, tmp_path: Path) -> None:
    with live.engine.connect() as user, read_only_view(live.path.parent, tmp_path / "view") as view:
        user.exec_driver_sql("SELECT 1")
        seen = Sqlite(view / live.path.name, work=tmp_path / "work")
        with pytest.raises(DatabaseUnreachable, match="in use") as caught, seen.snapshot():
            raise AssertionError("another writes here")
        assert "Mount the folder of the database writable" in caught.value.hint


def test_b7_a_database_that_comes_into_use_meanwhile_is_refused(live: Sqlite, tmp_path: Path) -> None:
    live.engine.dispose()
    with read_only_view(live.path.parent, tmp_path / "view") as view:
        seen = Sqlite(view / live.path.name, work=tmp_path / "work")

        def take_while_it_is_used() -> None:
            with closing(connect(live.path)) as user, seen.snapshot() as snapshot:
                list(snapshot.chunks())
                user.execute("SELECT count(*) FROM images").fetchone()

        with pytest.raises(DatabaseUnreachable, match="in use"):
            take_while_it_is_used()


def test_b7_a_database_that_was_changed_meanwhile_is_refused(live: Sqlite, tmp_path: Path) -> None:
    live.engine.dispose()
    with read_only_view(live.path.parent, tmp_path / "view") as view:
        seen = Sqlite(view / live.path.name, work=tmp_path / "work")

        def take_while_it_is_changed() -> None:
            with seen.snapshot() as snapshot:
                list(snapshot.chunks())
                add_image(live, "later", bytes(100_000))
                live.engine.dispose()

        with pytest.raises(BackupFailed, match="changed while it was read"):
            take_while_it_is_changed()


def test_r2_a_leftover_wal_is_not_replayed(live: Sqlite, tmp_path: Path) -> None:
    """A process that wrote after the backup was killed: its WAL lies beside the file when it is restored."""
    take(live, tmp_path / "image")
    before = live.facts()
    with closing(connect(live.path)) as writer:
        writer.execute("SELECT count(*) FROM images").fetchone()
        add_image(live, "after the backup")
        left = {end: Path(f"{live.path}{end}").read_bytes() for end in ("-wal", "-shm")}
    live.engine.dispose()
    for end, content in left.items():
        Path(f"{live.path}{end}").write_bytes(content)
    assert b"after the backup" in left["-wal"]
    with live.scratch() as copy:
        copy.load(tmp_path / "image")
        assert live.replace(copy, no_carry) is None
    assert live.facts() == before


@pytest.mark.parametrize("fate", ["missing", "garbage", "empty", "header only"])
def test_r2_nor_is_that_of_a_file_that_is_lost(live: Sqlite, tmp_path: Path, fate: str) -> None:
    take(live, tmp_path / "image")
    before = live.facts()
    with closing(connect(live.path)) as writer:
        writer.execute("SELECT count(*) FROM images").fetchone()
        add_image(live, "after the backup")
        wal = Path(f"{live.path}-wal").read_bytes()
    live.engine.dispose()
    content = {"garbage": b"garbage" * 1000, "empty": b"", "header only": live.path.read_bytes()[:100]}
    live.path.unlink()
    if fate != "missing":
        live.path.write_bytes(content[fate])
    Path(f"{live.path}-wal").write_bytes(wal)
    with live.scratch() as copy:
        copy.load(tmp_path / "image")
        aside = live.replace(copy, no_carry)
    assert live.facts() == before
    assert (aside is None) == (fate == "missing")
    if aside is not None:
        assert Path(aside).read_bytes() == content[fate]
    (wal_aside,) = live.path.parent.glob("*set-aside*-wal")
    assert wal_aside.read_bytes() == wal


def test_a_lost_file_comes_back_though_backups_and_database_are_mounted_apart(
    live: Sqlite, tmp_path: Path
) -> None:
    """R13: two mounts of one disk, as in containers: a rename does not lead from one to the other."""
    take(live, tmp_path / "image")
    folder = tmp_path / "mounted"
    folder.mkdir()
    if not mount("--bind", str(folder), str(folder)):
        pytest.skip("only root may mount")
    try:
        lost = Sqlite(folder / "lost.db", work=tmp_path / "work")
        with lost.scratch() as copy:
            copy.load(tmp_path / "image")
            assert lost.replace(copy, no_carry) is None
        assert lost.facts() == live.facts()
        lost.engine.dispose()
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("lost", [True, False], ids=["lost", "damaged"])
def test_what_root_restores_belongs_to_whom_the_server_runs_as(
    live: Sqlite, tmp_path: Path, *, lost: bool
) -> None:
    take(live, tmp_path / "image")
    live.engine.dispose()
    live.path.write_bytes(b"damaged")
    os.chown(live.path.parent, 1234, 1235)
    os.chown(live.path, 1236, 1237)
    if lost:
        live.path.unlink()
    with live.scratch() as copy:
        copy.load(tmp_path / "image")
        live.replace(copy, no_carry)
    owner = (1234, 1235) if lost else (1236, 1237)
    assert (live.path.stat().st_uid, live.path.stat().st_gid) == owner
    with live.engine.connect() as connection:
        connection.exec_driver_sql("DELETE FROM images")
        wal = live.path.with_name(live.path.name + "-wal").stat()
        assert (wal.st_uid, wal.st_gid) == owner
    live.engine.dispose()


def test_a_damaged_live_database_is_set_aside_whole(live: Sqlite, tmp_path: Path) -> None:
    take(live, tmp_path / "image")
    live.path.chmod(0o640)
    before = live.facts()
    live.engine.dispose()
    content = bytearray(live.path.read_bytes())
    content[8192:200_000] = os.urandom(200_000 - 8192)
    live.path.write_bytes(content)

    def carry(old: sa.Connection, _new: sa.Connection) -> int:
        return len(old.exec_driver_sql("SELECT * FROM revocations, status_entries").all())

    with live.scratch() as copy:
        copy.load(tmp_path / "image")
        aside = live.replace(copy, carry)
    assert aside is not None
    assert Path(aside).read_bytes() == content
    assert live.path.stat().st_mode & 0o777 == 0o640
    assert live.facts() == before


@pytest.mark.parametrize("page_size", [1024, 4096])
def test_a_page_size_that_differs_is_met(live: Sqlite, tmp_path: Path, page_size: int) -> None:
    take(live, tmp_path / "image")
    before = live.facts()
    give_pages_of(live, page_size)
    with live.engine.connect() as open_meanwhile:
        open_meanwhile.exec_driver_sql("SELECT 1")
        open_meanwhile.rollback()
        with live.scratch() as copy:
            copy.load(tmp_path / "image")
            assert copy.facts() == before  # its connections stay
            assert live.replace(copy, no_carry) is None
    assert live.facts() == before
    with closing(connect(live.path)) as connection:
        assert connection.execute("PRAGMA page_size").fetchone() == (page_size,)


def test_a_writer_that_does_not_end_makes_a_restore_fail_and_nothing_else(
    live: Sqlite, tmp_path: Path
) -> None:
    take(live, tmp_path / "image")
    add_image(live, "later")
    with closing(connect(live.path)) as writer, live.scratch() as copy:
        writer.execute("BEGIN IMMEDIATE")
        live.writer_seconds = 0.1
        copy.load(tmp_path / "image")
        with pytest.raises(DatabaseUnreachable, match="locked"):
            live.replace(copy, no_carry)
        writer.rollback()
    assert count(live, "images") == 9


def test_a_restore_that_takes_longer_than_a_writer_is_waited_for_is_done_all_the_same(
    live: Sqlite, tmp_path: Path
) -> None:
    take(live, tmp_path / "image")
    add_image(live, "later")
    live.writer_seconds = 0.0
    with live.scratch() as copy:
        copy.load(tmp_path / "image")
        assert live.replace(copy, no_carry) is None
    assert count(live, "images") == 8


def test_a_connection_to_a_file_that_was_replaced_is_not_used_again(live: Sqlite) -> None:
    with live.engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    shutil.copy(live.path, live.path.with_name("copy"))
    live.path.with_name("copy").replace(live.path)
    add_image(live, "new")
    with closing(system_sqlite3.connect(live.path)) as stranger:
        assert stranger.execute("SELECT count(*) FROM images").fetchone() == (9,)


def test_sweeping_removes_what_a_killed_run_left(live: Sqlite) -> None:
    (live.work / "scratch-abc").mkdir(parents=True)
    (live.work / "scratch-abc" / "scratch.db").write_bytes(b"x")
    (live.work / "spool-of-another").mkdir()
    left = live.path.with_name(f".{live.path.name}.0123.restoring-wal")
    left.write_bytes(b"x")
    live.sweep()
    assert [path.name for path in live.work.iterdir()] == ["spool-of-another"]
    assert not left.exists()
    assert live.exists()


def test_an_image_that_breaks_off_is_damaged_or_is_seen_by_its_checks(live: Sqlite, tmp_path: Path) -> None:
    """SQLite opens some truncated files without a word: its checks add to a hash, and replace none."""
    take(live, tmp_path / "image")
    whole = (tmp_path / "image").read_bytes()
    good = live.facts()
    for length in range(0, len(whole), 40_000):
        (tmp_path / "cut").write_bytes(whole[:length])
        with live.scratch() as copy:
            try:
                copy.load(tmp_path / "cut")
                assert copy.facts() != good
            except (BackupDamaged, DatabaseUnreachable):
                continue


def test_a_writer_waits_for_another_and_reads_its_rows(live: Sqlite) -> None:
    """The lock is taken at the start, so that no writer fails half-way for a newer write."""
    with writing(live.engine) as first:
        first.exec_driver_sql("SELECT count(*) FROM images").scalar()
        results: list[int] = []

        def second() -> None:
            with writing(live.engine) as connection:
                results.append(connection.exec_driver_sql("SELECT count(*) FROM images").scalar_one())

        thread = Thread(target=second)
        thread.start()
        first.exec_driver_sql("DELETE FROM images WHERE id = (SELECT min(id) FROM images)")
        assert results == []
    thread.join()
    assert results == [7]
    assert wait_until(partial(bool, results), "the second write")
