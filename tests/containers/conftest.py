"""What every test with containers needs: an engine, the images, and a deployment of each kind of database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers import engine
from tests.containers.engine import Images


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--remove-images", action="store_true", help="remove the images that were made here")


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Only where they are asked for by their folder: `make test` runs without Docker."""
    return None if any("tests/containers" in word for word in config.args) else True


@pytest.fixture(scope="session")
def images(request: pytest.FixtureRequest) -> Iterator[Images]:
    if problem := engine.missing():
        pytest.exit(problem, returncode=2)
    yield engine.make_images()
    if request.config.getoption("--remove-images"):
        engine.remove_images()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the deployments are made."""
    return tmp_path_factory.mktemp("obms")
