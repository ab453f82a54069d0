"""What a restore has to give, and what it must leave alone."""

from collections.abc import Iterator

from obms.backup.manifest import VERDICT_END
from tests.faults.fork_server import Ending
from tests.machine.moments import Due, Held, Moment, same_content
from tests.machine.rules import ended
from tests.machine.world import World


def judge_restore(world: World, ending: Ending, source: Moment | None, spoiled: set[str]) -> Iterator[str]:
    found = world.look()
    if ending.status > 0 or source is None:
        if spoiled - {VERDICT_END} or source is None:
            yield from ended(ending, 2, 5, 6, 8, 10)
        else:
            yield from ended(ending, 0)
        if not same_content(world.live, found):
            yield "a restore that failed has changed the live database"
        return
    yield from ended(ending, 0)
    if ending.status < 0 and same_content(world.live, found):
        return
    if found is None:
        yield "after the restore there is no database"
        return
    if "image" in spoiled:
        yield "a damaged image was restored"
    yield from _due(world, source).complaints(found)
    world.live = found


def _due(world: World, source: Moment) -> Due:
    held = Held.of(source) | Held.of(world.live) | world.journal | world.shipped
    least = Held(revoked=held.revoked, suspended=held.suspended - world.lifted - world.unsure)
    return Due(source=source, least=least, most=world.ever, places=world.places)


def unchanged(world: World) -> Iterator[str]:
    if not same_content(world.live, world.look()):
        yield "the live database has changed"
