"""What tells nothing of the rows is known from what does."""

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from obms.databases import Database
from obms.databases.interruptions import is_interruption, noting_interruptions
from tests.deployment import Deployment


def failure(engine: sa.Engine, statement: str) -> DBAPIError:
    with pytest.raises(DBAPIError) as caught, engine.connect() as connection:
        connection.exec_driver_sql(statement)
    return caught.value


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)",
        "SET statement_timeout = 1; SELECT pg_sleep(60)",
        "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)",
    ],
    ids=["cancelled", "timed out", "its session ended"],
)
def test_a_statement_of_postgresql_that_was_ended_is_one(postgresql: Deployment, statement: str) -> None:
    assert is_interruption(failure(postgresql.database.engine, statement))


def test_a_server_that_is_not_there_is_one(postgresql: Deployment) -> None:
    nowhere = sa.create_engine(postgresql.database.engine.url.set(port=1))
    assert is_interruption(failure(nowhere, "SELECT 1"))


def test_want_of_room_is_one_on_sqlite_too(sqlite: Deployment) -> None:
    engine = sqlite.database.engine
    event.listen(engine, "connect", lambda opened, _record: opened.execute("PRAGMA max_page_count=1"))
    assert is_interruption(failure(engine, "CREATE TABLE filler AS SELECT zeroblob(10000000)"))


@pytest.mark.parametrize(
    "statement", ["SELECT nothing FROM nowhere", "INSERT INTO issuers (id) VALUES ('x')"]
)
def test_what_the_rows_or_the_tables_are_at_fault_for_is_none(database: Database, statement: str) -> None:
    with noting_interruptions(database.engine) as noted:
        assert not is_interruption(failure(database.engine, statement))
    assert noted == []


def test_one_is_noted_while_somebody_listens(postgresql: Deployment) -> None:
    engine = postgresql.database.engine
    cancel = "SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)"
    with noting_interruptions(engine) as noted:
        told = failure(engine, cancel)
    failure(engine, cancel)
    assert noted == [told]
