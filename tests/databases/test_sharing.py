"""Writers that share a commit: each is told the truth of its own part."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from threading import Event

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from obms.databases import sharing, writing
from obms.databases.sharing import SharedCommits
from obms.databases.sqlite_snapshot import connect
from tests.deployment import Deployment
from tests.real_faults import wait_until

WRITERS = 40
ADD = sa.text("INSERT INTO users (id, username, email, created_at) VALUES (:n, :n, :n, '2026-01-01')")


@pytest.fixture
def engine(sqlite: Deployment) -> Iterator[sa.Engine]:
    """Of the server, which keeps its connections."""
    found = sqlite.application.database.engine
    yield found
    found.dispose()


@pytest.fixture(autouse=True)
def _hurried_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn is not over before the test is, however slow the machine."""
    monkeypatch.setattr(sharing, "SECONDS", 60.0)


def add(connection: sa.Connection, name: str) -> None:
    connection.execute(ADD, {"n": name})


def names(engine: sa.Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.execute(sa.text("SELECT id FROM users")).scalars())


def test_all_is_committed_when_each_goes_on_and_in_fewer_commits(engine: sa.Engine) -> None:
    shared = SharedCommits(engine)
    commits: list[sa.Connection] = []
    begun: list[int] = []
    event.listen(engine, "commit", commits.append)

    def write(number: int) -> bool:
        begun.append(number)
        with shared.writing() as connection:
            add(connection, f"user {number}")
        return f"user {number}" in names(engine)

    with ThreadPoolExecutor(16) as pool:
        with writing(engine):  # whoever comes meanwhile has to wait
            going = [pool.submit(write, number) for number in range(WRITERS)]
            wait_until(lambda: len(begun) == 16, "sixteen that wait")
        assert all(each.result() for each in going)
    assert len(names(engine)) == WRITERS
    assert len(commits) < WRITERS


def test_what_fails_is_undone_alone(engine: sa.Engine) -> None:
    shared = SharedCommits(engine)

    def write(number: int) -> None:
        with shared.writing() as connection:
            add(connection, f"user {number}")
            if number % 3 == 0:
                add(connection, f"user {number}")

    with ThreadPoolExecutor(16) as pool:
        done = [pool.submit(write, number) for number in range(WRITERS)]
    failed = {number for number, one in enumerate(done) if isinstance(one.exception(), sa.exc.IntegrityError)}
    assert failed == set(range(0, WRITERS, 3))
    assert names(engine) == {f"user {number}" for number in range(WRITERS)} - {f"user {n}" for n in failed}


def pair(shared: SharedCommits, second_does: str) -> tuple["Future[None]", "Future[None]"]:
    """Two writers in one transaction, of which the second ends it in its own way."""
    began = Event()

    def first() -> None:
        with shared.writing() as connection:
            add(connection, "first")
            began.set()
            wait_until(lambda: shared._waiting == 1, "the second writer")

    def second() -> None:
        with shared.writing() as connection:
            add(connection, "second")
            for statement in second_does.split(";"):
                connection.exec_driver_sql(statement)

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first)
        assert began.wait(20)
        return one, pool.submit(second)


@pytest.mark.parametrize(
    "fault",
    [
        "ROLLBACK",  # as SQLite does by itself where the disk is full or fails
        "PRAGMA defer_foreign_keys=ON; INSERT INTO user_roles (id, user_id, role) VALUES ('a', 'b', 'admin')",
    ],
    ids=["lost", "refused at the commit"],
)
def test_nobody_is_told_that_it_is_kept_where_the_whole_transaction_is_lost(
    engine: sa.Engine, fault: str
) -> None:
    shared = SharedCommits(engine)
    one, other = pair(shared, fault)
    assert isinstance(one.exception(), sa.exc.SQLAlchemyError)
    assert isinstance(other.exception(), sa.exc.SQLAlchemyError)
    assert names(engine) == set()
    # Who comes next finds everything in order.
    with shared.writing() as connection:
        add(connection, "next")
    assert names(engine) == {"next"}


def test_a_writer_that_cannot_begin_does_not_keep_the_turn(engine: sa.Engine, sqlite: Deployment) -> None:
    shared = SharedCommits(engine)
    file = sqlite.settings.sqlite_file
    elsewhere = file.rename(file.with_name("elsewhere.db"))
    with pytest.raises(sa.exc.OperationalError), shared.writing():
        raise AssertionError("there is no database")
    elsewhere.rename(file)
    with shared.writing() as connection:
        add(connection, "next")
    assert names(engine) == {"next"}


def test_a_writer_that_waits_too_long_for_another_process_does_not_keep_the_turn(
    engine: sa.Engine, sqlite: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obms.databases.sqlite_snapshot.BUSY_SECONDS", 0.05)
    shared = SharedCommits(engine)
    with closing(connect(sqlite.settings.sqlite_file)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sa.exc.OperationalError, match="locked"), shared.writing():
            raise AssertionError("there is no lock to be had")
        other.rollback()
    with shared.writing() as connection:
        add(connection, "next")
    assert names(engine) == {"next"}
