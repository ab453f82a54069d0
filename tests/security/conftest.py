"""The application on SQLite, with someone who talks to it; what the kind of database changes is tested elsewhere."""

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
