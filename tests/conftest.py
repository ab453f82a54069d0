"""Fixtures that every test may use: a PostgreSQL per process, and servers to try things on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from obms.databases import Database
from obms.observe import configure_logging
from tests.deployment import Deployment
from tests.postgres import Server, running_server
from tests.s3_server import S3Server, running_s3


@pytest.fixture(scope="session", autouse=True)
def _plain_logs() -> None:
    """Log as the server does: structlog's own traces, with all locals, take seconds each."""
    configure_logging()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL of this process; tests that stop it start it again."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server of this process."""
    with running_s3() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    """A migrated, empty server in a folder of its own, on each kind of database."""
    server = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    with Deployment.made(tmp_path, server) as made:
        yield made


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Deployment]:
    """The same on SQLite alone."""
    with Deployment.made(tmp_path, None) as made:
        yield made


@pytest.fixture
def postgresql(tmp_path: Path, postgres: Server) -> Iterator[Deployment]:
    """The same on PostgreSQL alone."""
    with Deployment.made(tmp_path, postgres) as made:
        yield made


@pytest.fixture
def database(deployment: Deployment) -> Database:
    """A migrated, empty database of each kind."""
    return deployment.database


@pytest.fixture
def stocked(deployment: Deployment) -> Deployment:
    """A server of each kind with badges in it."""
    deployment.seed()
    return deployment


@pytest.fixture
def stocked_sqlite(sqlite: Deployment) -> Deployment:
    sqlite.seed()
    return sqlite


@pytest.fixture
def stocked_postgresql(postgresql: Deployment) -> Deployment:
    postgresql.seed()
    return postgresql
