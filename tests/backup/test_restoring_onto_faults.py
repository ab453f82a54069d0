"""Restoring where the live database is damaged, or the disk full: whole, or not at all (R2, R3, R5, B7)."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from obms.databases import Facts
from obms.databases.contents import things_of_others
from obms.databases.sqlite import PAGE_SIZE
from obms.databases.sqlite_snapshot import connect
from tests.backup.conftest import (
    Backed,
    add_issuer,
    assert_nothing_is_left,
    execute,
    images,
    issuer_names,
    lose_half,
    lose_schema,
)
from tests.deployment import Deployment
from tests.real_faults import fill_disk, read_only_view, small_disk


def live_file(server: Deployment) -> Path:
    return server.folder / "data" / "openbadges.db"


def drop(server: Deployment, table: str) -> None:
    """Whatever refers to it."""
    if server.postgres is not None:
        execute(server, f"DROP TABLE {table} CASCADE")
        return
    with closing(connect(live_file(server))) as connection:
        connection.execute(f"DROP TABLE {table}")


@pytest.mark.parametrize("table", ["revocations", "status_lists", "alembic_version"])
def test_a_live_database_that_lost_a_table_is_set_aside_whole(backed: Backed, table: str) -> None:
    """It is restored when it is needed most."""
    server, made = backed
    before = server.database.facts()
    add_issuer(server, "after the backup")
    drop(server, table)
    answer = server.obms("restore", "latest", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["rows"] == made["rows"]
    assert server.database.facts() == before
    aside = answer.json["set_aside"]
    assert aside
    if server.postgres is not None:
        assert server.postgres.psql("SELECT count(*) FROM credentials", aside) == "30"
    else:
        with closing(connect(Path(aside))) as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM issuers")}
        assert "after the backup" in names


def test_r2_rows_that_only_the_old_wal_has_do_not_come_back(backed_sqlite: Backed) -> None:
    server, _ = backed_sqlite
    before = server.database.facts()
    with server.database.engine.connect() as user:
        user.exec_driver_sql("SELECT 1")
        add_issuer(server, "in the WAL")
        wal = Path(f"{live_file(server)}-wal")
        content = wal.read_bytes()
        assert b"in the WAL" in content
    server.database.engine.dispose()
    shutil.copy(live_file(server), server.folder / "main")
    (server.folder / "main").replace(live_file(server))
    wal.write_bytes(content)
    answer = server.obms("restore", "latest", "--yes")
    assert answer.code == 0, answer.err
    assert server.database.facts() == before
    assert "in the WAL" not in issuer_names(server)


def test_r3_a_live_database_with_other_rows_is_replaced_as_a_whole(backed: Backed) -> None:
    server, _ = backed
    before = server.database.facts()
    lose_half(server)
    server.seed(20, number=7)
    execute(server, "CREATE TABLE stranger (n integer)")
    answer = server.obms("restore", "latest", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert server.database.facts() == before


@pytest.mark.parametrize("missing", ["file", "folder"])
def test_a_live_file_that_is_gone_is_made_again(backed_sqlite: Backed, missing: str) -> None:
    server, _ = backed_sqlite
    before = server.database.facts()
    server.database.engine.dispose()
    shutil.rmtree(server.folder / "data")
    if missing == "file":
        (server.folder / "data").mkdir()
    answer = server.obms("restore", "latest", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["safety_backup"], answer.json["set_aside"]) == (None, None)
    assert server.database.facts() == before


def leave_an_empty_file(server: Deployment) -> None:
    lose_schema(server)
    live_file(server).write_bytes(b"")


def assert_restored_over_nothing(server: Deployment, before: Facts) -> None:
    answer = server.obms("restore", "latest", "--yes")
    assert answer.code == 0, answer.err
    assert "stood there" not in answer.out
    assert server.database.facts() == before
    assert list((server.folder / "data").glob("*set-aside*")) == []
    if server.postgres is not None:
        name = server.database.engine.url.database
        assert server.postgres.psql(f"SELECT datname FROM pg_database WHERE datname ~ '^{name}_set'") == ""


def test_r13_an_empty_database_is_nothing_to_save_and_nothing_unreadable(backed: Backed) -> None:
    server, _ = backed
    before = server.database.facts()
    lose_schema(server)
    assert_restored_over_nothing(server, before)


def test_r13_so_is_a_file_without_a_byte(backed_sqlite: Backed) -> None:
    server, _ = backed_sqlite
    before = server.database.facts()
    leave_an_empty_file(server)
    assert_restored_over_nothing(server, before)


def assert_set_aside(server: Deployment, *made: str) -> None:
    """What somebody has made is all that is there, and a restore keeps it."""
    lose_schema(server)
    execute(server, *made)
    answer = server.obms("restore", "latest", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["set_aside"]


def test_a_table_that_is_not_ours_is_set_aside_with_its_database(backed: Backed) -> None:
    server, _ = backed
    assert_set_aside(server, "CREATE TABLE stranger (n integer)")


def test_large_objects_of_somebody_are_set_aside_with_their_database(backed_postgresql: Backed) -> None:
    server, _ = backed_postgresql
    assert_set_aside(server, "SELECT lo_create(0)")


def test_large_objects_are_seen_under_a_schema_whose_name_must_be_quoted(postgresql: Deployment) -> None:
    statements = ('CREATE SCHEMA "Others"', 'SET LOCAL search_path = "Others"', "SELECT lo_create(0)")
    with postgresql.database.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        found = things_of_others(connection, ours=True)
    assert any("large object" in thing for thing in found)


def test_an_empty_file_beside_a_wal_is_set_aside_with_it(backed_sqlite: Backed) -> None:
    """What the WAL holds may be wanted: nobody but SQLite can tell."""
    server, _ = backed_sqlite
    leave_an_empty_file(server)
    Path(f"{live_file(server)}-wal").write_bytes(b"some frames")
    answer = server.obms("restore", "latest", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert Path(f"{answer.json['set_aside']}-wal").read_bytes() == b"some frames"


def test_r7_a_backup_of_the_other_kind_takes_an_empty_database_as_it_is(
    backed_sqlite: Backed, postgresql: Deployment
) -> None:
    source, made = backed_sqlite
    lose_schema(postgresql)
    answer = postgresql.obms("restore", str(source.backup_dir / made["file"]), "--yes", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["set_aside"] is None
    assert postgresql.database.facts().rows == made["rows"]


@pytest.mark.parametrize("share", [0.03, 0.3, 1])
def test_a_live_file_that_is_damaged_is_set_aside_whole(backed_sqlite: Backed, share: float) -> None:
    server, _ = backed_sqlite
    before = server.database.facts()
    server.database.engine.dispose()
    size = live_file(server).stat().st_size
    damaged = bytearray(live_file(server).read_bytes())
    first = 0 if share == 1 else PAGE_SIZE
    damaged[first : int(size * share)] = os.urandom(int(size * share) - first)
    live_file(server).write_bytes(damaged)
    answer = server.obms("restore", "latest", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["safety_backup"] is None
    assert Path(answer.json["set_aside"]).read_bytes() == damaged
    assert server.database.facts() == before


@contextmanager
def unchanged(server: Deployment) -> Iterator[Facts]:
    """The live database and the backups are afterwards what they were before."""
    before, published = server.database.facts(), images(server)
    server.database.engine.dispose()
    yield before
    assert server.database.facts() == before
    assert [name for name in images(server) if name != "ballast"] == published
    assert_nothing_is_left(server)


def test_r5_a_disk_too_small_to_spool_is_found_before_the_work(backed: Backed) -> None:
    server, made = backed
    lose_half(server)
    with small_disk(server.backup_dir / ".work", made["raw_bytes"] // 2048) as mounted:
        if not mounted:
            pytest.skip("only root can mount a small disk")
        with unchanged(server):
            answer = server.obms("restore", "latest", "--yes")
            assert answer.code == 9, answer.err
            assert re.search(r"has [\d.]+ k?B free, and [\d.]+ [kM]B are needed", answer.err), answer.err
            assert server.obms("restore", "latest", "--dry-run").code == 9


def test_r5_a_disk_that_fills_up_while_spooling_is_loud(backed: Backed) -> None:
    """Of a file made by hand nobody knows beforehand how large it is."""
    server, made = backed
    lose_half(server)
    shutil.copy(server.backup_dir / made["file"], server.folder / "by hand")
    with small_disk(server.backup_dir / ".work", made["bytes"] // 1024 + 20) as mounted:
        if not mounted:
            pytest.skip("only root can mount a small disk")
        with unchanged(server):
            answer = server.obms("restore", str(server.folder / "by hand"), "--yes")
            assert answer.code == 9, answer.err
            assert "No space left on device" in answer.err


@contextmanager
def stocked_on_small_disk(server: Deployment, kilobytes: int) -> Iterator[None]:
    """The server with badges, its database on a disk of its own."""
    with small_disk(server.folder / "data", kilobytes) as mounted:
        if not mounted:
            pytest.skip("only root can mount a small disk")
        server.database.create()
        server.obms("migrate")
        server.seed()
        yield
        server.database.engine.dispose()


def test_r5_a_disk_that_fills_up_while_the_live_file_is_written_is_loud(sqlite: Deployment) -> None:
    """The spool has room, the write-ahead log of the live database has none."""
    with stocked_on_small_disk(sqlite, 4096):
        sqlite.made_backup()
        lose_half(sqlite)
        with unchanged(sqlite):
            fill_disk(sqlite.folder / "data", leave=100_000)
            answer = sqlite.obms("restore", "latest", "--yes")
            (sqlite.folder / "data" / "ballast").unlink()
            assert answer.code == 9, answer.err
        assert sqlite.obms("restore", "latest", "--yes").code == 0


def test_r5_what_the_live_file_takes_already_is_not_asked_for_again(sqlite: Deployment) -> None:
    with stocked_on_small_disk(sqlite, 8192):
        made = sqlite.made_backup()
        sqlite.database.engine.dispose()
        fill_disk(sqlite.folder / "data", leave=made["raw_bytes"] * 3 // 2)
        answer = sqlite.obms("restore", "latest", "--yes")
        assert answer.code == 0, answer.err


def test_r5_a_safety_backup_that_has_no_room_stops_the_restore(backed: Backed) -> None:
    server, made = backed
    lose_half(server)
    kept = server.folder / "kept"
    shutil.copytree(server.backup_dir, kept)
    with small_disk(server.backup_dir, made["bytes"] * 2 // 1024 + made["raw_bytes"] // 1024 + 60) as mounted:
        if not mounted:
            pytest.skip("only root can mount a small disk")
        shutil.copytree(kept, server.backup_dir, dirs_exist_ok=True)
        with unchanged(server):
            fill_disk(server.backup_dir, leave=made["raw_bytes"] + 20_000)
            answer = server.obms("restore", "latest", "--yes")
            assert answer.code == 9, answer.err


def test_b7_with_the_api_stopped_a_backup_is_made_in_a_read_only_folder(stocked_sqlite: Deployment) -> None:
    server = stocked_sqlite
    server.database.engine.dispose()
    with read_only_view(server.folder / "data", server.folder / "view") as view:
        file = str(view / "openbadges.db")
        answer = server.obms("backup", "run", "--json", SQLITE_FILE=file)
    assert answer.code == 0, answer.err
    assert answer.json["proven"]
    assert answer.json["rows"]["credentials"] == 30


def test_b7_in_use_in_a_read_only_folder_it_is_loud(stocked_sqlite: Deployment) -> None:
    server = stocked_sqlite
    with (
        server.database.engine.connect() as user,
        read_only_view(server.folder / "data", server.folder / "view") as view,
    ):
        user.exec_driver_sql("SELECT 1")
        answer = server.obms("backup", "run", SQLITE_FILE=str(view / "openbadges.db"))
    assert answer.code == 3, answer.err
    assert "Mount the folder of the database writable" in answer.err
    assert images(server) == []


def test_b7_a_read_only_folder_is_not_restored_into(backed_sqlite: Backed) -> None:
    server, _ = backed_sqlite
    server.database.engine.dispose()
    with read_only_view(server.folder / "data", server.folder / "view") as view:
        answer = server.obms("restore", "latest", "--yes", SQLITE_FILE=str(view / "openbadges.db"))
    assert answer.code in {3, 9}, answer.err
    assert_nothing_is_left(server)


def test_b7_a_backup_folder_that_cannot_be_written_is_loud(stocked: Deployment) -> None:
    (stocked.folder / "backups").mkdir(exist_ok=True)
    with read_only_view(stocked.folder / "backups", stocked.folder / "view") as view:
        answer = stocked.obms("backup", "run", BACKUP_DIR=str(view))
    assert answer.code == 9, answer.err
    assert "Read-only file system" in answer.err
