"""The application on SQLite, and someone who talks to it; the kind of database matters elsewhere."""

from collections.abc import Iterator

import pytest

from obms.web import create_app
from tests.deployment import Deployment
from tests.web.conftest import Client


@pytest.fixture
def client(sqlite: Deployment) -> Iterator[Client]:
    server = sqlite.application
    yield Client(app=create_app(server))
    server.database.engine.dispose()
