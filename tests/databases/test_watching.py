"""What every Watch keeps: equal looks mean that nothing was committed between them."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from shutil import move
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from obms.databases import Database, writing
from obms.databases.postgresql_watch import PostgresqlWatch
from obms.databases.watching import Unwatched, Watch
from obms.schema import users
from tests.deployment import Deployment
from tests.postgres import Server

STATEMENT = "SELECT id, username FROM users WHERE id IN ({keys}) ORDER BY id"
END = (
    "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
    " WHERE query LIKE '%postmaster_start%' AND pid <> pg_backend_pid()"
)


def add_user(database: Database, name: str) -> None:
    with writing(database.engine) as connection:
        connection.execute(
            sa.text("INSERT INTO users (id, username, email, created_at) VALUES (:n, :n, :n, '2026-01-01')"),
            {"n": name},
        )


async def look(watch: Watch) -> Any:
    """What it sees once it is connected."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await watch.look()
            except Unwatched:
                await asyncio.sleep(0.01)


def play(watch: Watch, scene: Coroutine[Any, Any, None]) -> None:
    """Nothing is raised where nobody would hear of it, either."""
    unheard: list[dict[str, Any]] = []

    async def act() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unheard.append(context))
        try:
            await scene
        finally:
            watch.close()

    asyncio.run(act())
    assert unheard == []


def test_looks_are_equal_until_somebody_commits(database: Database) -> None:
    watch = database.watch(STATEMENT)

    async def scene() -> None:
        before = await look(watch)
        assert [await watch.look() for _ in range(3)] == 3 * [before]
        seen = {before}
        for name in ("a", "b", "c"):
            await asyncio.to_thread(add_user, database, name)
            after = await watch.look()
            assert after not in seen
            assert await watch.look() == after
            seen.add(after)

    play(watch, scene())


def test_rows_are_those_of_now(database: Database) -> None:
    watch = database.watch(STATEMENT)

    async def scene() -> None:
        await look(watch)
        assert await watch.rows(["a", "b", "'"]) == []
        await asyncio.to_thread(add_user, database, "a")
        await asyncio.to_thread(add_user, database, "c")
        assert await watch.rows(["a", "b", "'"]) == [("a", "a")]

    play(watch, scene())


def test_a_database_that_is_not_there_cannot_be_watched(sqlite: Deployment, tmp_path: Path) -> None:
    watch = sqlite.database.watch(STATEMENT)
    file, elsewhere = Path(sqlite.environment["SQLITE_FILE"]), tmp_path / "elsewhere.db"

    async def scene() -> None:
        before = await watch.look()
        move(file, elsewhere)
        with pytest.raises(Unwatched):
            await watch.look()
        move(elsewhere, file)
        assert await watch.look() != before

    play(watch, scene())


def test_another_file_in_the_place_is_another_database(sqlite: Deployment) -> None:
    watch = sqlite.database.watch(STATEMENT)
    with sqlite.database.scratch() as other:
        other.create()
        users.metadata.create_all(other.engine)
        add_user(other, "other")

        async def scene() -> None:
            before = await watch.look()
            assert await watch.rows(["other"]) == []
            sqlite.database.replace(other, lambda _old, _new: 0, whole=True)
            assert await watch.look() != before
            assert await watch.rows(["other"]) == [("other", "other")]

        play(watch, scene())


def test_a_session_that_was_ended_is_opened_again_and_sees_something_else(
    postgresql: Deployment, postgres: Server
) -> None:
    watch = postgresql.database.watch(STATEMENT)

    async def scene() -> None:
        before = await look(watch)
        assert await asyncio.to_thread(postgres.psql, END) == "1"
        with pytest.raises(Unwatched):
            await watch.look()
        assert await look(watch) != before

    play(watch, scene())


def test_a_server_that_does_not_let_in_is_tried_again(postgresql: Deployment) -> None:
    watch = postgresql.database.watch(STATEMENT)
    assert isinstance(watch, PostgresqlWatch)
    let_in, refusals = watch.connection, ["host=/nowhere"]

    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(refusals.pop()) if refusals else let_in()

    watch.connection = connect

    async def scene() -> None:
        assert await look(watch) == await watch.look()
        assert refusals == []

    play(watch, scene())


def test_rows_of_a_file_that_is_gone_cannot_be_told(sqlite: Deployment, tmp_path: Path) -> None:
    watch = sqlite.database.watch(STATEMENT)

    async def scene() -> None:
        await watch.look()
        move(Path(sqlite.environment["SQLITE_FILE"]), tmp_path / "elsewhere.db")
        with pytest.raises(Unwatched):
            await watch.rows(["a"])

    play(watch, scene())


def test_a_statement_that_cannot_be_prepared_watches_nothing(postgresql: Deployment) -> None:
    watch = postgresql.database.watch("SELECT nothing FROM nowhere WHERE id IN ({keys})")
    assert isinstance(watch, PostgresqlWatch)
    with pytest.raises(psycopg.OperationalError, match="rows"):
        watch._prepare()


def test_a_statement_that_fails_is_answered_by_no_rows_of_an_earlier_one(postgresql: Deployment) -> None:
    watch = postgresql.database.watch("SELECT 1 / (key::int) FROM ({keys}) AS found (key)")

    async def scene() -> None:
        await look(watch)
        assert await watch.rows(["1"]) == [("1",)]
        with pytest.raises(Unwatched):
            await watch.rows(["0"])
        await look(watch)
        assert await watch.rows(["1"]) == [("1",)]

    play(watch, scene())


def test_who_waits_for_an_answer_is_told_that_the_watch_has_ended(postgresql: Deployment) -> None:
    watch = postgresql.database.watch("SELECT pg_sleep(60) FROM ({keys}) AS found (key)")

    async def scene() -> None:
        await look(watch)
        asking = asyncio.create_task(watch.rows(["a"]))
        await asyncio.sleep(0)
        watch.close()
        with pytest.raises(Unwatched):
            await asking

    play(watch, scene())
