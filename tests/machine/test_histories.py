"""Short histories in which something was lost once, on each kind of database."""

from collections.abc import Iterator

import pytest

from tests.deployment import Deployment
from tests.faults.fork_server import ForkServer
from tests.machine.moments import Moment
from tests.machine.world import World, begun

YEAR = 365 * 24 * 3600


@pytest.fixture
def world(deployment: Deployment, forking: ForkServer) -> Iterator[World]:
    with begun(deployment, forking) as world:
        yield world


def ask(world: World, do: str, id: str) -> None:
    (answer,) = world.ask([{"do": do, "id": id}])
    assert answer["status"] < 300, answer


def done(world: World, *arguments: str) -> None:
    ending = world.do(*arguments)
    assert ending.status == 0, ending.said


def live(world: World) -> Moment:
    found = world.look()
    assert found is not None
    return found


def test_r10_what_only_a_store_tells_outlives_a_young_journal(world: World) -> None:
    """The folder is lost, the API revokes once more, and then the database is lost too."""
    assert world.live is not None
    first, second = sorted(world.live.credentials - world.live.revoked)[:2]
    done(world, "backup", "run")
    old = world.images(world.store)[0]
    ask(world, "revoke", first)
    done(world, "backup", "run")
    world.lose_folder()
    ask(world, "revoke", second)
    world.lose_database()
    done(world, "restore", old, "--store", str(world.store), "--yes")
    assert {first, second} <= live(world).revoked


def test_r10_k4_a_suspension_outlives_a_clock_that_was_ahead_when_an_earlier_one_was_lifted(
    world: World,
) -> None:
    """The journal is in the order of the events, whatever the clock said."""
    assert world.live is not None
    badge = min(world.live.credentials - world.live.revoked)
    done(world, "backup", "run")
    ask(world, "suspend", badge)
    world.ahead = YEAR
    ask(world, "unsuspend", badge)
    world.ahead = 0
    ask(world, "suspend", badge)
    world.lose_database()
    done(world, "restore", "latest", "--yes")
    assert badge in live(world).suspended


def test_r10_k4_what_was_not_journalled_is_caught_up_though_the_clock_was_ahead(world: World) -> None:
    """A mark of the future hides nothing that was revoked after the clock was put right."""
    assert world.live is not None
    badge = min(world.live.credentials - world.live.revoked)
    done(world, "backup", "run")
    old = world.images(world.folder)[0]
    world.ahead = YEAR
    done(world, "backup", "run")
    world.ahead = 0
    journal = world.folder / "journal"
    journal.rename(world.folder / "journal away")
    journal.write_bytes(b"in the way")
    ask(world, "revoke", badge)
    journal.unlink()
    (world.folder / "journal away").rename(journal)
    done(world, "backup", "run")
    world.lose_database()
    done(world, "restore", old, "--yes")
    assert badge in live(world).revoked
