"""The judges, and a server for them to judge."""

import sys
from collections.abc import Iterator

import pytest

from obms.web import create_app
from tests.conformance.judge import Judge, installed
from tests.deployment import Deployment
from tests.web.conftest import Client

SITE = "https://badges.example.org"


@pytest.fixture
def client(sqlite: Deployment) -> Iterator[Client]:
    """The application of a server that has a public name."""
    sqlite.environment["BASE_URL"] = SITE
    server = sqlite.application
    yield Client(app=create_app(server))
    server.database.engine.dispose()


@pytest.fixture
def judge(client: Client) -> Judge:
    """1EdTech's validator core; what it fetches, this server answers."""
    if sys.version_info >= (3, 13):
        pytest.skip("one of its libraries wants the module cgi, which Python 3.13 has no more")
    return Judge(python=installed(), client=client, site=SITE)
