"""R7: a deployment grows by one command, and no acknowledged write is lost on the way."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa
from pyrage.x25519 import Identity

from obms.app import open_database, open_target
from obms.backup.move import _finish
from obms.errors import Refused
from obms.migrations import migrate
from obms.schema import audit_events
from tests.backup.conftest import add_issuer, assert_nothing_is_left, execute, issuer_names
from tests.backup.test_restoring import digests
from tests.databases.conftest import Writers, write_event
from tests.deployment import API_KEY, Answer, Deployment, _drop_databases
from tests.postgres import Server, clean_environment
from tests.serving import serving

Pair = tuple[Deployment, str]


@pytest.fixture(params=["sqlite", "postgresql"])
def leaving(request: pytest.FixtureRequest, tmp_path: Path, postgres: Server) -> Iterator[Pair]:
    """A server with badges, and the URL of a place on the other kind of database where there is none yet."""
    source: Deployment = request.getfixturevalue(f"stocked_{request.param}")
    name = f"target_{uuid4().hex[:12]}"
    yield source, postgres.url(name) if request.param == "sqlite" else f"sqlite:///{tmp_path}/new/o.db"
    _drop_databases(postgres, name)


def moved(source: Deployment, url: str) -> Answer:
    answer = source.obms("move", "--to", url, "--yes", "--json")
    assert answer.code == 0, answer.err
    return answer


def at_home(source: Deployment, answer: Answer) -> Deployment:
    """The server with the settings that the move has told."""
    told = source.environment | answer.json["settings"]
    settings = {name: value for name, value in told.items() if value}
    home = replace(source, environment=settings, postgres=None)
    return replace(home, database=open_database(home.settings))


def test_r7_a_server_moves_to_the_other_kind_of_database(leaving: Pair) -> None:
    source, url = leaving
    before = digests(source)
    answer = moved(source, url)
    home = at_home(source, answer)
    assert answer.json["database"] == home.database.kind != source.database.kind
    assert answer.json["second_copy"] is False
    assert digests(home) == before
    assert digests(source) == before
    assert home.made_backup()["rows"] == answer.json["rows"]
    assert_nothing_is_left(source)


def test_r7_the_old_database_takes_no_more_writes_until_a_restore(leaving: Pair) -> None:
    source, url = leaving
    before, safety = issuer_names(source), moved(source, url).json["id"]
    for verb in ("DELETE FROM revocations", "UPDATE issuers SET name = 'lost'"):
        with pytest.raises(sa.exc.DBAPIError, match=r"moved|read-only"):
            execute(source, verb)
    with pytest.raises(sa.exc.DBAPIError, match=r"moved|read-only"):
        add_issuer(source, "lost")
    assert issuer_names(source) == before
    answer = source.obms("restore", safety, "--yes")
    assert answer.code == 0, answer.err
    add_issuer(source, "back again")
    assert "back again" in issuer_names(source)


def test_r7_no_write_that_was_acknowledged_is_lost(leaving: Pair) -> None:
    source, url = leaving
    with Writers(source.database, write=write_event) as writers:
        answer = source.obms("move", "--to", url, "--yes", "--json")
    assert answer.code == 0, answer.err
    assert writers.done
    assert answer.json["second_copy"] is True
    pairs = sa.select(sa.func.count()).where(audit_events.c.action == "pair")
    home = at_home(source, answer)
    with home.database.engine.connect() as connection:
        assert connection.execute(pairs).scalar_one() == writers.done
    assert digests(home) == digests(source)


def test_r7_the_api_answers_503_to_writers_and_goes_on_reading(leaving: Pair) -> None:
    source, url = leaving
    issuer = {"name": "x", "url": "https://x.example", "type": "Profile"}
    with (
        serving(source, 1) as address,
        httpx.Client(base_url=address, headers={"X-API-Key": API_KEY}) as client,
    ):
        assert client.post("/issuers", json=issuer).status_code == 201
        moved(source, url)
        assert client.get("/issuers").status_code == 200
        answer = client.post("/issuers", json=issuer)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_r7_a_target_with_something_in_it_is_left_alone(leaving: Pair) -> None:
    source, url = leaving
    home = at_home(source, moved(source, url))
    add_issuer(home, "written there")
    before = digests(source)
    for also in ("--yes", "--dry-run"):
        answer = source.obms("move", "--to", url, also)
        assert answer.code == 8
        assert "30 credentials" in answer.err
    assert digests(source) == before


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE SCHEMA theirs; CREATE TABLE theirs.orders (id int)", "theirs.orders"),
        ("CREATE TABLE nothing ()", "public.nothing"),
        ("CREATE VIEW one AS SELECT 1 AS n", "public.one"),
        ("CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'", "public.one"),
        ("CREATE DOMAIN several AS int[]", "public.several"),
        ("CREATE TABLE alembic_version (version_num text); CREATE TABLE t ()", "public.alembic_version"),
    ],
)
def test_r7_whatever_somebody_has_made_in_the_target_is_left_alone(
    stocked_sqlite: Deployment, postgres: Server, statement: str, named: str
) -> None:
    name = f"target_{uuid4().hex[:12]}"
    postgres.psql(f'CREATE DATABASE "{name}"')
    try:
        target, _ = open_target(stocked_sqlite.settings, postgres.url(name))
        with target.engine.begin() as connection:
            connection.exec_driver_sql(statement)
        answer = stocked_sqlite.obms("move", "--to", postgres.url(name), "--yes")
        assert (answer.code, f"is not empty: {named}" in answer.err) == (8, True), answer.err
    finally:
        _drop_databases(postgres, name)


def test_r7_a_target_with_the_tables_of_ours_is_empty_until_something_stands_beside_them(
    leaving: Pair,
) -> None:
    source, url = leaving
    target, _ = open_target(source.settings, url)
    target.create()
    migrate(target.engine)
    with target.engine.begin() as connection:
        connection.exec_driver_sql("CREATE VIEW one AS SELECT 1 AS n")
    assert "is not empty: " in source.obms("move", "--to", url, "--yes").err
    with target.engine.begin() as connection:
        connection.exec_driver_sql("DROP VIEW one")
    moved(source, url)


def test_a_move_without_the_key_ends_before_it_begins(stocked_sqlite: Deployment, postgres: Server) -> None:
    del stocked_sqlite.environment["SECRET_KEY"]
    for also in ("--yes", "--dry-run"):
        answer = stocked_sqlite.obms("move", "--to", postgres.url("absent"), also)
        assert (answer.code, "SECRET_KEY" in answer.err) == (10, True), answer.err
    assert not stocked_sqlite.backup_dir.exists()


def test_r7_after_a_move_an_undo_tells_what_to_type(stocked_sqlite: Deployment, postgres: Server) -> None:
    source, name = stocked_sqlite, f"target_{uuid4().hex[:12]}"
    source.made_backup()
    safety = source.obms("restore", "latest", "--yes", "--json").json["safety_backup"]
    try:
        home = at_home(source, moved(source, postgres.url(name)))
        for also in ("--yes", "--dry-run"):
            answer = home.obms("restore", "--undo", also)
            assert (answer.code, f"`obms restore {safety} --yes`" in answer.err) == (8, True), answer.err
    finally:
        _drop_databases(postgres, name)


def test_r7_a_dry_run_of_a_move_touches_nothing(leaving: Pair) -> None:
    source, url = leaving
    answer = source.obms("move", "--to", url, "--dry-run", "--json")
    assert answer.code == 0, answer.err
    assert len(answer.json["steps"]) == 4
    assert not source.backup_dir.exists()
    assert source.obms("move", "--to", url).code == 8
    add_issuer(source, "still at home")
    moved(source, url)


def test_r7_a_move_to_the_same_kind_is_refused(stocked_sqlite: Deployment) -> None:
    answer = stocked_sqlite.obms("move", "--to", "sqlite:///elsewhere.db", "--yes")
    assert answer.code == 8
    assert "runs on sqlite already" in answer.err


@pytest.mark.parametrize("url", ["mysql://a@b/c", "postgresql://a:p@ss@b/c", "nonsense"])
def test_r7_a_target_that_is_no_url_is_told(sqlite: Deployment, url: str) -> None:
    answer = sqlite.obms("move", "--to", url, "--yes")
    assert answer.code == 2
    assert "--to" in answer.err


def test_r14_a_role_without_the_right_is_told_before_anything_is_touched(
    stocked_sqlite: Deployment, postgres: Server
) -> None:
    postgres.psql("CREATE ROLE small LOGIN PASSWORD 'small'")
    try:
        url = postgres.url("small").replace(f"postgres:{postgres.password}", "small:small")
        answer = stocked_sqlite.obms("move", "--to", url, "--yes")
    finally:
        postgres.psql("DROP ROLE small")
    assert answer.code == 8
    assert "CREATEDB" in answer.err
    assert not stocked_sqlite.backup_dir.exists()


def test_r7_a_server_whose_backups_it_cannot_open_moves_too(leaving: Pair) -> None:
    """Its backups are encrypted to a key that is elsewhere."""
    source, url = leaving
    source.environment["BACKUP_AGE_RECIPIENTS"] = str(Identity.generate().to_public())
    before = digests(source)
    assert digests(at_home(source, moved(source, url))) == before


def test_r7_what_the_target_cannot_hold_stops_a_move_with_nothing_changed(
    stocked_sqlite: Deployment, postgres: Server
) -> None:
    execute(stocked_sqlite, "UPDATE achievements SET name = 'a' || char(0)")
    name = f"target_{uuid4().hex[:12]}"
    answer = stocked_sqlite.obms("move", "--to", postgres.url(name), "--yes")
    assert answer.code == 8
    assert "achievements row" in answer.err
    assert postgres.psql(f"SELECT datname FROM pg_database WHERE datname LIKE '{name}%'") == ""
    add_issuer(stocked_sqlite, "goes on")


KILLED = """
import os, signal, sys
from obms import cli
from obms.backup import move

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def done_and_die(database, fence):
    retire(database, fence)
    die()

retire = move.retire
point = sys.argv.pop(1)
if point == "before the old one refuses writers":
    move.retire = die
elif point == "while it is made to":
    move.retire = done_and_die
else:
    move.Moved = die
sys.argv[0] = "obms"
cli.main()
"""
POINTS = ["before the old one refuses writers", "while it is made to", "after it does"]


def kill_a_move(source: Deployment, url: str, point: str) -> None:
    """A process of its own, ended by SIGKILL at this point, when the copy has taken its place."""
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, point, "move", "--to", url, "--yes"],
        cwd=source.folder,
        env={**clean_environment(), **source.environment},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize("point", POINTS)
def test_r4_a_move_that_was_killed_at_its_end_is_finished_by_a_second_one(leaving: Pair, point: str) -> None:
    source, url = leaving
    before = digests(source)
    kill_a_move(source, url, point)
    assert source.obms("move", "--to", url, "--dry-run").code == 0
    backups = source.obms("backup", "list", "--json").json
    answer = moved(source, url)
    assert answer.json["id"] == backups[0]["id"]
    assert digests(at_home(source, answer)) == digests(source) == before
    with pytest.raises(sa.exc.DBAPIError, match=r"moved|read-only"):
        add_issuer(source, "lost")
    assert_nothing_is_left(source)


def test_r4_what_was_written_after_a_killed_move_is_not_left_behind(leaving: Pair) -> None:
    """R4: the old database took a write that the copy lacks, so that the copy may not take its place."""
    source, url = leaving
    kill_a_move(source, url, POINTS[0])
    add_issuer(source, "written after")
    answer = source.obms("move", "--to", url, "--yes")
    assert answer.code == 8
    assert "drop it, and move again" in answer.err
    # Behind the fence it is asked again: the first look may be older than a write.
    with pytest.raises(Refused, match="not empty"):
        _finish(source.backups, open_target(source.settings, url)[0], 0.0)
    add_issuer(source, "still at home")
