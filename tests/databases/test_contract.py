"""One suite for every database: what backing up and restoring may rely on."""

import random
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from obms.databases import Database, writing
from obms.databases.quick_check import quick_check
from obms.databases.sqlite import PAGE_SIZE
from obms.databases.sqlite_snapshot import connect
from obms.errors import BackupDamaged, DatabaseUnreachable, ObmsError
from obms.migrations import newest
from obms.schema import images
from tests.databases.conftest import (
    MOMENT,
    Writers,
    add_image,
    add_image_row,
    count,
    no_carry,
    take,
)
from tests.deployment import Deployment
from tests.real_faults import wait_until


def test_a_snapshot_loads_into_a_scratch_database_that_holds_the_same(
    stock: Database, tmp_path: Path
) -> None:
    image = tmp_path / "image"
    take(stock, image)
    with stock.scratch() as copy:
        copy.load(image)
        assert copy.facts() == stock.facts()
        assert copy.problems() == ()


def test_the_facts_of_a_snapshot_are_those_of_its_image(stock: Database, tmp_path: Path) -> None:
    with stock.snapshot() as snapshot:
        (tmp_path / "image").write_bytes(b"".join(snapshot.chunks()))
        facts = snapshot.facts()
    assert facts.rows == stock.facts().rows
    assert facts.rows["credentials"] == 30
    assert facts.revision == newest()
    assert facts.digests in ({}, stock.facts().digests)


def test_a_snapshot_names_what_made_it(stock: Database) -> None:
    with stock.snapshot() as snapshot:
        assert snapshot.server_version[0].isdigit()
        assert set(snapshot.tools) <= {"sqlite", "pg_dump"}
        assert all(version[0].isdigit() for version in snapshot.tools.values())


def test_b6_a_snapshot_is_one_moment_while_writers_go_on(
    database: Database, writers: Writers, tmp_path: Path
) -> None:
    wait_until(partial(writers.wrote, 20), "the first writes")
    for number in range(3):
        before = writers.done
        with database.snapshot() as snapshot:
            at_entry = writers.done
            wait_until(partial(writers.wrote, at_entry + 10), "writes during the snapshot")
            (tmp_path / f"{number}").write_bytes(b"".join(snapshot.chunks()))
            rows = snapshot.facts().rows
        with database.scratch() as copy:
            copy.load(tmp_path / f"{number}")
            assert copy.facts(digests=False).rows == rows
            assert unpaired(copy) == 0
        assert rows["images"] == rows["audit_events"]
        assert before <= rows["images"] <= at_entry + len(writers.threads)
    assert writers.failures == []


def unpaired(database: Database) -> int:
    with database.engine.connect() as connection:
        return int(
            connection.exec_driver_sql(
                "SELECT count(*) FROM images FULL JOIN audit_events ON subject = images.id"
                " WHERE images.id IS NULL OR subject IS NULL"
            ).scalar_one()
        )


def test_rows_that_were_committed_before_the_snapshot_are_in_it(database: Database, tmp_path: Path) -> None:
    for number in range(20):
        add_image(database, f"image-{number}")
    with database.snapshot() as snapshot:
        add_image(database, "later")
        (tmp_path / "image").write_bytes(b"".join(snapshot.chunks()))
        assert snapshot.facts().rows["images"] == 20
    assert count(database, "images") == 21


def test_what_is_not_committed_is_not_in_the_snapshot(database: Database, tmp_path: Path) -> None:
    add_image(database, "committed")
    with database.engine.connect() as connection:
        add_image_row(connection, "open")
        if database.kind == "sqlite":
            connection.rollback()  # a writer that does not end would hold the lock of the snapshot's fence
        take(database, tmp_path / "image")
    with database.scratch() as copy:
        copy.load(tmp_path / "image")
        assert count(copy, "images") == 1


def test_a_scratch_database_is_empty_and_gone_at_the_end(stock: Database) -> None:
    with stock.scratch() as copy:
        if copy.kind == "sqlite":
            copy.create()
        assert not copy.exists()
        copy.create()
        assert copy.facts().rows == {}
    with pytest.raises(ObmsError):
        copy.facts()
    assert stock.facts().rows["credentials"] == 30


def test_a_scratch_database_is_removed_whatever_happens(stocked: Deployment, tmp_path: Path) -> None:
    stock, image = stocked.database, tmp_path / "image"
    take(stock, image)
    copies = []

    def break_off() -> None:
        with stock.scratch() as copy:
            copies.append(copy)
            copy.load(image)
            left_open = copy.engine.connect()
            left_open.exec_driver_sql("SELECT * FROM credentials")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    with pytest.raises(DatabaseUnreachable):
        copies[0].facts()
    assert list((stocked.backup_dir / ".work").glob("*")) == []


def test_two_scratch_databases_do_not_meet(stock: Database) -> None:
    with stock.scratch() as one, stock.scratch() as two:
        for copy in (one, two):
            copy.create()
        with writing(one.engine) as connection:
            connection.exec_driver_sql("CREATE TABLE only_here (n int)")
        assert set(one.facts().rows) == {"only_here"}
        assert two.facts().rows == {}


@pytest.mark.parametrize(
    "data", [b"", b"x", b"SQLite format 3\x00" + bytes(4000), b"-- PostgreSQL database dump\n"]
)
def test_what_is_no_whole_image_is_not_loaded(stock: Database, tmp_path: Path, data: bytes) -> None:
    image = tmp_path / "image"
    image.write_bytes(data)
    with stock.scratch() as copy:
        try:
            copy.load(image)
        except BackupDamaged:
            return
        assert copy.facts(digests=False).revision is None


def test_the_digests_do_not_depend_on_the_order_of_the_rows(database: Database) -> None:
    for id in ("a", "b", "c"):
        add_image(database, id)
    digests = database.facts().digests
    with writing(database.engine) as connection:
        connection.exec_driver_sql("DELETE FROM images")
    for id in ("c", "a", "b"):
        add_image(database, id)
    assert database.facts().digests == digests


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM revocations",
        "UPDATE status_entries SET value = NOT value WHERE purpose = 'suspension'",
        "UPDATE credentials SET expires_at = NULL",
        "UPDATE issuers SET email = '' WHERE email IS NOT NULL",
        "UPDATE signing_keys SET sealed_private = public_pem::bytea",
        "INSERT INTO users (id, username, email, created_at) VALUES ('u', 'u', 'u', '2026-01-01 00:00:00')",
    ],
)
def test_a_changed_row_changes_the_digest_of_its_table_alone(stock: Database, change: str) -> None:
    before = stock.facts().digests
    if stock.kind == "sqlite":
        change = change.replace("::bytea", "")
    with writing(stock.engine) as connection:
        connection.exec_driver_sql(change)
    after = stock.facts().digests
    changed = {name for name in after if after[name] != before[name]}
    assert len(changed) == 1
    assert changed.pop() in change


def test_values_do_not_pass_from_one_column_into_the_next(database: Database) -> None:
    digests = set()
    for name, media_type in (("ab", "c"), ("a", "bc"), ("a", "2:bc"), ("~", ""), ("", "~")):
        row = {"id": "i", "name": name, "media_type": media_type, "content": b"", "created_at": MOMENT}
        with writing(database.engine) as connection:
            connection.execute(sa.delete(images))
            connection.execute(sa.insert(images), row)
        digests.add(database.facts().digests["images"])
    assert len(digests) == 5


def test_the_same_rows_have_equal_digests_in_both_kinds(both: tuple[Database, Database]) -> None:
    sqlite, postgresql = (database.facts() for database in both)
    assert sqlite.rows == postgresql.rows
    assert sqlite.digests == postgresql.digests
    assert all(
        sqlite.rows[name] for name in ("issuers", "credentials", "images", "signing_keys", "revocations")
    )


def test_a_replaced_database_holds_the_content_of_the_scratch_one(stock: Database, tmp_path: Path) -> None:
    take(stock, tmp_path / "image")
    before = stock.facts()
    add_image(stock, "later")
    with stock.scratch() as copy:
        copy.load(tmp_path / "image")
        assert stock.replace(copy, no_carry) is None
    assert stock.facts() == before


def test_replacing_carries_what_must_not_be_lost(stock: Database, tmp_path: Path) -> None:
    take(stock, tmp_path / "image")
    add_image(stock, "later")

    def carry(old: sa.Connection, new: sa.Connection) -> int:
        found = old.exec_driver_sql("SELECT name FROM images WHERE id = 'later'").scalar_one()
        add_image_row(new, f"carried {found}")
        return 1

    with stock.scratch() as copy:
        copy.load(tmp_path / "image")
        stock.replace(copy, carry)
    with stock.engine.connect() as connection:
        query = "SELECT id FROM images WHERE id IN ('later', 'carried later')"
        assert connection.exec_driver_sql(query).scalars().all() == ["carried later"]


def test_a_carry_that_fails_leaves_the_live_database_as_it_was(stock: Database, tmp_path: Path) -> None:
    take(stock, tmp_path / "image")
    add_image(stock, "later")
    before = stock.facts()

    def carry(_old: sa.Connection, new: sa.Connection) -> int:
        add_image_row(new, "half")
        raise ZeroDivisionError

    with stock.scratch() as copy:
        copy.load(tmp_path / "image")
        with pytest.raises(ZeroDivisionError):
            stock.replace(copy, carry)
    assert stock.facts() == before
    add_image(stock, "and it can be written")


def test_a_database_that_is_not_there_is_made_by_replacing(stocked: Deployment, tmp_path: Path) -> None:
    stock = stocked.database
    take(stock, tmp_path / "image")
    before = stock.facts()
    lose(stocked)
    assert not stock.exists()
    with stock.scratch() as copy:
        copy.load(tmp_path / "image")
        assert stock.replace(copy, no_carry) is None
    assert stock.facts() == before


def lose(server: Deployment) -> None:
    """The whole database is gone."""
    server.database.engine.dispose()
    if server.postgres is not None:
        server.postgres.psql(f'DROP DATABASE "{server.database.engine.url.database}" WITH (FORCE)')
        return
    for path in (server.folder / "data").iterdir():
        path.unlink()


def test_connections_that_were_open_see_the_new_content(stock: Database, tmp_path: Path) -> None:
    take(stock, tmp_path / "image")
    with stock.engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    add_image(stock, "later")
    assert count(stock, "images") == 9
    with stock.scratch() as copy:
        copy.load(tmp_path / "image")
        stock.replace(copy, no_carry)
    assert count(stock, "images") == 8


def test_creating_what_is_there_changes_nothing(stock: Database) -> None:
    before = stock.facts()
    stock.create()
    assert stock.facts() == before
    assert stock.exists()


def test_its_size_is_that_of_what_it_holds(stock: Database) -> None:
    before = stock.size()
    add_image(stock, "large", random.Random(1).randbytes(1 << 20))  # noqa: S311 - no secret
    assert before > 0
    assert stock.size() >= before + (1 << 20)


def test_an_empty_database_is_not_one_of_this_server(stock: Database) -> None:
    with stock.scratch() as copy:
        copy.create()
        assert not copy.exists()
        copy_of_schema = copy.facts()
    assert copy_of_schema.revision is None


def test_sweeping_takes_no_database_that_is_in_use(stock: Database) -> None:
    if stock.kind == "sqlite":
        pytest.skip("of SQLite the lock of the folder tells what is in use")
    with stock.scratch() as copy:
        stock.sweep()
        assert copy.facts().rows == {}


def test_a_server_loads_alike_what_one_of_its_own_version_was_seen_to_load(stock: Database) -> None:
    with stock.snapshot() as snapshot:
        assert stock.loads_alike(snapshot.server_version)


def test_a_postgresql_of_another_major_version_may_load_it_otherwise(postgresql: Deployment) -> None:
    assert not postgresql.database.loads_alike("9.6.24")
    assert not postgresql.database.loads_alike("150.1")


def test_a_quick_look_at_a_whole_database_finds_nothing(stock: Database) -> None:
    with stock.engine.connect() as connection:
        found = quick_check(connection, timedelta(seconds=60))
    assert (found.problems, "every" in found.detail) == ((), True)


def test_a_quick_look_names_an_index_that_is_not_fit(stocked_postgresql: Deployment) -> None:
    with writing(stocked_postgresql.database.engine) as connection:
        connection.exec_driver_sql(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'pk_images'::regclass"
        )
        assert quick_check(connection, timedelta(seconds=60)).problems == ("the index pk_images is not fit",)


def test_a_quick_look_ends_when_its_time_is_over(stocked_sqlite: Deployment) -> None:
    with stocked_sqlite.database.engine.connect() as connection:
        assert "not to the end" in quick_check(connection, timedelta()).detail


def test_a_quick_look_finds_a_page_that_is_not_whole(stocked_sqlite: Deployment) -> None:
    path = stocked_sqlite.settings.sqlite_file
    with closing(connect(path)) as connection:
        root = "SELECT rootpage FROM sqlite_master WHERE name = 'credentials'"
        page = connection.execute(root).fetchone()[0]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    stocked_sqlite.database.engine.dispose()
    content = bytearray(path.read_bytes())
    content[(page - 1) * PAGE_SIZE : page * PAGE_SIZE] = b"\xff" * PAGE_SIZE
    path.write_bytes(content)
    with stocked_sqlite.database.engine.connect() as connection:
        assert quick_check(connection, timedelta(seconds=60)).problems
