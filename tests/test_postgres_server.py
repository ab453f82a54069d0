"""The PostgreSQL server of the tests: real, private, and gone when they are."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests import postgres

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(
    params=[
        pytest.param(None, id="wheel"),
        pytest.param(
            DEBIAN_15, id="15", marks=pytest.mark.skipif(not DEBIAN_15.exists(), reason="no PostgreSQL 15")
        ),
    ],
    scope="module",
)
def server(request: pytest.FixtureRequest) -> Iterator[postgres.Server]:
    with postgres.running_server(request.param) as started:
        yield started


def test_it_answers_a_client_that_knows_the_password(server: postgres.Server) -> None:
    with psycopg.connect(server.url()) as connection:
        row = connection.execute("SELECT current_user, current_setting('server_encoding')").fetchone()
    assert row == ("postgres", "UTF8")


def test_it_turns_away_a_wrong_password(server: postgres.Server) -> None:
    wrong = server.url().replace(server.password, "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_its_own_programs_reach_it(server: postgres.Server) -> None:
    assert server.psql("SELECT 1 + 1") == "2"
    assert (server.bin_dir / "pg_dump").exists()


def test_a_stopped_server_comes_back_with_its_data(server: postgres.Server) -> None:
    server.psql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
    server.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.url())
    server.start()
    assert server.psql("SELECT n FROM kept") == "7"


def test_stopping_twice_is_stopping_once(server: postgres.Server) -> None:
    server.stop("immediate")
    server.stop()
    assert not server.running()
    server.start()
    assert server.running()


def test_its_settings_can_be_chosen() -> None:
    with postgres.running_server(fsync="on") as started:
        assert started.psql("SHOW fsync") == "on"


def test_nothing_of_it_is_left() -> None:
    with postgres.running_server() as started:
        url, folder = started.url(), started.folder
    assert not folder.exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts the server as another user")
def test_programs_that_its_user_cannot_reach_are_copied(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "pginstall").symlink_to(postgres.installed_programs().parent)
    hidden.chmod(0o700)
    with postgres.running_server(hidden / "pginstall" / "bin") as started:
        assert started.psql("SELECT 1") == "1"
