"""Rules of restores: from the folder and from the store, back again, and cut off."""

from collections.abc import Iterator

from obms.backup.manifest import MANIFEST_END
from obms.backup.undo import read_record, safety_in
from tests.faults.killer import NEVER, Shot
from tests.machine.restoring import judge_restore, unchanged
from tests.machine.rules import ended, rule
from tests.machine.world import World


@rule(5)
def restore(world: World) -> Iterator[str]:
    """The newest proven one, or any."""
    yield from _restore(world, NEVER)


@rule(3)
def restore_killed(world: World) -> Iterator[str]:
    yield from _restore(world, world.draw_shot("restore"))


def _restore(world: World, shot: Shot) -> Iterator[str]:
    file = None if world.chance.random() < 0.5 else world.draw_image()
    ending = world.do("restore", file or "latest", "--yes", "--json", shot=shot)
    if file is None:
        proven = [backup.file for backup in world.catalog() if backup.proven]
        if ending.status == 0:
            file = next((name for name in world.local if name.startswith(ending.json["id"])), None)
        elif not proven:
            yield from ended(ending, 2)
            yield from unchanged(world)
            return
        else:
            file = proven[0]
    if file is None:
        yield f"it restored {ending.json['id']}, which is not known"
        return
    yield from judge_restore(world, ending, world.local.get(file), world.spoiled.get(file, set()))


@rule(2)
def restore_on_a_full_disk(world: World) -> Iterator[str]:
    if not world.has_small_disk:
        return
    with world.full_disk():
        file = world.draw_image()
        if file is None:
            return
        ending = world.do("restore", file, "--yes", "--json")
    if ending.status == 0:
        yield from judge_restore(world, ending, world.local.get(file), world.spoiled.get(file, set()))
    else:
        yield from ended(ending, 2, 5, 8, 9)
        yield from unchanged(world)


@rule(2)
def undo(world: World) -> Iterator[str]:
    before = _safety_of(world)
    ending = world.do("restore", "--undo", "--yes", "--json")
    if before is None:
        yield from ended(ending, 2)
        yield from unchanged(world)
        return
    file = next((name for name in world.local if name.startswith(before)), None)
    spoiled = world.spoiled.get(file or "", set())
    if file is None or (spoiled and ending.status):
        yield from ended(ending, 2, 5, 8)
        yield from unchanged(world)
        return
    # PostgreSQL has kept the database itself.
    yield from judge_restore(world, ending, world.local[file], set())


def _safety_of(world: World) -> str | None:
    return safety_in(read_record(world.deployment.backups.storage))


@rule(1)
def restore_from_the_store(world: World) -> Iterator[str]:
    files = world.images(world.store)
    if not files:
        return
    file = world.chance.choice(files)
    whole = {file, file + MANIFEST_END} <= {path.name for path in world.store.iterdir()}
    ending = world.do("restore", file, "--store", str(world.store), "--yes", "--json")
    if whole or ending.status == 0:
        yield from judge_restore(world, ending, world.stored.get(file), set())
