"""Rules of losses and damage, and of clocks that leap."""

from collections.abc import Iterator
from datetime import timedelta

from obms.backup.manifest import MANIFEST_END, VERDICT_END
from tests.machine.restoring import judge_restore
from tests.machine.rules import ended, rule
from tests.machine.world import World

DAY = timedelta(days=1)
LEAPS = (DAY / 24, DAY, 3 * DAY, 10 * DAY, 40 * DAY, -DAY, -40 * DAY, 3650 * DAY, -3650 * DAY)
FARTHEST = 20 * 365 * DAY


@rule(2)
def lose_the_database(world: World) -> Iterator[str]:
    """Where something is left that brings it back."""
    if not world.images(world.store) and not world.good_ones():
        return
    world.lose_database()
    world.live = None
    yield from ()


@rule(1)
def damage_the_database(world: World) -> Iterator[str]:
    """The head of the SQLite file is overwritten, so that it cannot be read."""
    if world.deployment.postgres is not None or world.live is None or not world.good_ones():
        return
    world.look()
    with (world.deployment.folder / "data" / "openbadges.db").open("r+b") as file:
        file.write(b"damaged in its head")
    world.live = None
    yield from ()


@rule(1)
def lose_the_folder(world: World) -> Iterator[str]:
    if not world.images(world.store) and world.live is None:
        return
    world.lose_folder()
    world.spoiled.clear()
    yield from ()


@rule(1)
def lose_everything_but_the_store(world: World) -> Iterator[str]:
    if not world.images(world.store):
        return
    yield from lose_the_folder(world)
    yield from lose_the_database(world)
    yield from ended(world.do("restore", "latest", "--yes"), 2)
    proven = [backup for backup in world.catalog(world.store) if backup.proven]
    if proven:
        ending = world.do("restore", "latest", "--store", str(world.store), "--yes", "--json")
        yield from judge_restore(world, ending, world.stored.get(proven[0].file), set())


@rule(3)
def damage(world: World) -> Iterator[str]:
    """A file of a backup is changed behind the server's back."""
    file = world.draw_image()
    end = world.chance.choice(["", "", MANIFEST_END, VERDICT_END])
    if file is None or not (world.folder / (file + end)).exists():
        return
    how = world.chance.choice([_flip, _flip, _truncate, _append, _remove, _swap])
    how(world, file, end)
    spoiled = {name for name, ends in world.spoiled.items() if MANIFEST_END in ends}
    for backup in world.catalog():
        if backup.proven and backup.file in spoiled:
            yield f"{backup.file} is called proven, and its {world.spoiled[backup.file]} was changed"


def _spoil(world: World, file: str, end: str, content: bytes) -> None:
    """Change it. Two backups of the same content are the same bytes: what is swapped may be whole again."""
    path = world.folder / (file + end)
    whole = world.whole.setdefault(path.name, path.read_bytes())
    path.write_bytes(content)
    world.spoiled.setdefault(file, set()).add(end or "image")
    if content == whole:
        world.spoiled[file].discard(end or "image")
    world.said += f"{path.name} is changed "


def _flip(world: World, file: str, end: str) -> None:
    content = bytearray((world.folder / (file + end)).read_bytes())
    if content:
        content[world.chance.randrange(len(content))] ^= 1 << world.chance.randrange(8)
        _spoil(world, file, end, bytes(content))


def _truncate(world: World, file: str, end: str) -> None:
    content = (world.folder / (file + end)).read_bytes()
    if content:
        _spoil(world, file, end, content[: world.chance.randrange(len(content))])


def _append(world: World, file: str, end: str) -> None:
    _spoil(world, file, end, (world.folder / (file + end)).read_bytes() + b"more")


def _remove(world: World, file: str, end: str) -> None:
    _spoil(world, file, end, b"")
    (world.folder / (file + end)).unlink()
    world.pinned.discard(file)


def _swap(world: World, file: str, end: str) -> None:
    others = [name for name in world.images(world.folder) if (world.folder / (name + end)).exists()]
    other = world.chance.choice(others)
    mine, theirs = ((world.folder / (name + end)).read_bytes() for name in (file, other))
    if mine != theirs:
        _spoil(world, file, end, theirs)
        _spoil(world, other, end, mine)


@rule(4)
def time_passes(world: World) -> Iterator[str]:
    leap = world.chance.choice(LEAPS)
    if world.chance.random() < 0.2:
        leap = timedelta(seconds=-world.ahead)
    if abs(timedelta(seconds=world.ahead) + leap) <= FARTHEST:
        world.ahead += int(leap.total_seconds())
        world.went_back = world.went_back or leap < timedelta(0)
        world.said = f"{leap} to {timedelta(seconds=world.ahead)}"
    yield from ()
