"""What the kill sweep and the tests of its judges share."""

from collections.abc import Iterator

import pytest

from tests.faults import fork_server
from tests.faults.fork_server import ForkServer


@pytest.fixture(scope="session")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """A process to be forked, and its children to be killed."""
    with fork_server.started(tmp_path_factory.mktemp("killer")) as server:
        yield server
