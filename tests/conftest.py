"""Fixtures that every test may use: a PostgreSQL per process, and servers to try things on."""

import gc
import os
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from obms.databases import Database
from obms.observe import configure_logging
from tests.clouds import Cloud, azure_cloud, google_cloud
from tests.deployment import Deployment, Templates
from tests.postgres import Server, running_server
from tests.s3_server import S3Server, running_s3

# Where one kind of database tells as much as the other, each test is asked of one, drawn anew each day.
EITHER = re.compile("tests/(web|badges|looking|cli|security|backup)/")
KIND = re.compile("sqlite|postgresql")
FAULT = re.compile(r"test_[bkrs]\d+_")
# Told to the processes that run the tests, which must all draw the same.
os.environ.setdefault("OBMS_TEST_DAY", datetime.now(UTC).date().isoformat())


# What is collected is no garbage.
gc.disable()


def pytest_collection_finish() -> None:
    """What is there now stays: it need not be looked through for garbage again and again.

    Nor what comes as often as Python does: that took a twentieth of the time.
    """
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--both", action="store_true", help="Ask every test of both kinds of database.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not drawn today; a fault of the list is always played on both."""
    if config.getoption("--both"):
        return
    asked: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        (left_out if isinstance(item, pytest.Function) and _is_left_out(item) else asked).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = asked


def _is_left_out(item: pytest.Function) -> bool:
    callspec = getattr(item, "callspec", None)
    kind = callspec.params.get("deployment") if callspec else None
    if kind is None or not EITHER.match(item.nodeid) or FAULT.match(item.name):
        return False
    drawn = zlib.crc32(f"{os.environ['OBMS_TEST_DAY']} {KIND.sub('', item.nodeid)}".encode()) % 2
    return bool(kind != ("sqlite", "postgresql")[drawn])


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


@pytest.fixture(scope="session")
def google(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A bucket that speaks as Google Cloud Storage does."""
    with google_cloud(s3, tmp_path_factory.mktemp("google")) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def azure() -> Cloud:
    """A container of Azure, where the environment names one."""
    return azure_cloud()


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """What the tests of this process copy their servers from; all of it goes with the process."""
    return Templates(folder=tmp_path_factory.mktemp("templates"))


@pytest.fixture(params=["sqlite", "postgresql"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path, templates: Templates) -> Iterator[Deployment]:
    """A migrated, empty server in a folder of its own, on each kind of database."""
    server = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    with Deployment.made(tmp_path, server, like=templates.find(server)) as made:
        yield made


@pytest.fixture
def sqlite(tmp_path: Path, templates: Templates) -> Iterator[Deployment]:
    """The same on SQLite alone."""
    with Deployment.made(tmp_path, None, like=templates.find(None)) as made:
        yield made


@pytest.fixture
def postgresql(tmp_path: Path, postgres: Server, templates: Templates) -> Iterator[Deployment]:
    """The same on PostgreSQL alone."""
    with Deployment.made(tmp_path, postgres, like=templates.find(postgres)) as made:
        yield made


@pytest.fixture
def database(deployment: Deployment) -> Database:
    """A migrated, empty database of each kind."""
    return deployment.database


@pytest.fixture
def stocked(deployment: Deployment, templates: Templates) -> Deployment:
    """A server of each kind with badges in it."""
    deployment.become(templates.find(deployment.postgres, Deployment.seed))
    return deployment


@pytest.fixture
def stocked_sqlite(sqlite: Deployment, templates: Templates) -> Deployment:
    sqlite.become(templates.find(None, Deployment.seed))
    return sqlite


@pytest.fixture
def stocked_postgresql(postgresql: Deployment, templates: Templates) -> Deployment:
    postgresql.become(templates.find(postgresql.postgres, Deployment.seed))
    return postgresql
