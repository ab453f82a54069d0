"""The documents of the W3C, and an application to try them on."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from obms.web import create_app
from tests.deployment import Deployment
from tests.web.conftest import Client

FOLDER = Path(__file__).parent / "documents"


@cache
def of_the_w3c(name: str) -> Any:
    """A file of vectors; it says itself where it is from."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One application for all of a file's documents."""
    with Deployment.made(tmp_path_factory.mktemp("conformance"), None) as made:
        server = made.application
        yield Client(app=create_app(server))
        server.database.engine.dispose()


@pytest.fixture(scope="module")
def issuer(client: Client) -> str:
    return client.add_issuer()
