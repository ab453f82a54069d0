"""Rules of backups: made, proven and removed, with whatever may happen to that."""

from collections.abc import Iterator

from obms.backup.manifest import MANIFEST_END, VERDICT_END
from tests.faults.fork_server import Ending
from tests.machine.moments import Held
from tests.machine.rules import ended, rule
from tests.machine.world import World
from tests.real_faults import dump_that

# It is missing, or damaged.
NO_DATABASE = (3, 4)


@rule(8)
def back_up(world: World) -> Iterator[str]:
    ending = world.do("backup", "run", "--json")
    yield from _judge_run(world, ending)


def _judge_run(world: World, ending: Ending) -> Iterator[str]:
    if world.live is None:
        yield from ended(ending, *NO_DATABASE)
        return
    # What was damaged in the folder is told when its turn comes to be read again.
    told = {5} if any(world.spoiled.values()) else set()
    # It cannot be copied either, and a store keeps what it has under a name.
    yield from ended(ending, 0, *told, *({9} if _something_cannot_be_copied(world) else set()))
    if ending.status in (0, 5, 9) and ending.out:
        if not ending.json["proven"]:
            yield f"a backup of a healthy server is not proven: {ending.json['proof']}"
        world.journal |= Held.of(world.live)
        if ending.status == 0:
            world.shipped |= world.journal


def _something_cannot_be_copied(world: World) -> bool:
    """It is damaged; or it has the name of one in the store, for the folder was lost within a second."""
    manifests = (
        [place / (file + MANIFEST_END) for place in (world.folder, world.store)]
        for file in world.images(world.store)
    )
    return any(world.spoiled.values()) or any(
        mine.exists() and stored.exists() and mine.read_bytes() != stored.read_bytes()
        for mine, stored in manifests
    )


@rule(2)
def back_up_unproven(world: World) -> Iterator[str]:
    ending = world.do("backup", "run", "--no-prove", "--json")
    yield from ended(ending, *((0,) if world.live else NO_DATABASE))


@rule(5)
def back_up_killed(world: World) -> Iterator[str]:
    ending = world.do("backup", "run", "--json", shot=world.draw_shot("backup run"))
    if ending.status >= 0:
        yield from _judge_run(world, ending)


@rule(2)
def back_up_on_a_full_disk(world: World) -> Iterator[str]:
    if not world.has_small_disk:
        return
    with world.full_disk():
        ending = world.do("backup", "run", "--json")
    # 6: it was published, and for want of room it could not be proven.
    yield from ended(ending, 0, 6, 9) if world.live else ended(ending, *NO_DATABASE, 9)


@rule(2)
def back_up_with_a_dying_dump(world: World) -> Iterator[str]:
    server = world.deployment.postgres
    if server is None:
        return
    after = world.chance.choice([1, 20_000, 60_000])
    line = f'"$REAL" "$@" | head -c {after}; kill -9 $$'
    folder = dump_that(world.deployment.folder / "dying", server.bin_dir, line)
    for name in ("psql", "pg_restore", "pg_dumpall"):
        if not (folder / name).exists() and (server.bin_dir / name).exists():
            (folder / name).symlink_to(server.bin_dir / name)
    ending = world.do("backup", "run", "--json", PG_BIN_DIR=str(folder))
    yield from ended(ending, *((4,) if world.live else NO_DATABASE))


@rule(3)
def verify(world: World) -> Iterator[str]:
    file = world.draw_image()
    if file is None:
        return
    ending = world.do("backup", "verify", file)
    if not (bad := world.spoiled.get(file, set()) - {VERDICT_END}):
        yield from ended(ending, 0)
        world.spoiled.pop(file, None)
        if ending.status == 0 and not any(b.file == file and b.proven for b in world.catalog()):
            yield f"{file} verifies, and is not listed as proven"
    else:
        yield from ended(ending, 2, 5, 6)
        if any(b.file == file and b.proven for b in world.catalog()):
            yield f"{file} was damaged ({bad}) and judged, and is listed as proven"


@rule(3)
def prune(world: World) -> Iterator[str]:
    yield from ended(world.do("backup", "prune", "--yes"), 0)


@rule(2)
def prune_killed(world: World) -> Iterator[str]:
    yield from ended(world.do("backup", "prune", "--yes", shot=world.draw_shot("backup prune")), 0)


@rule(1)
def pin(world: World) -> Iterator[str]:
    file = world.draw_image()
    if file is not None and not world.spoiled.get(file):
        yield from ended(world.do("backup", "pin", file), 0)
        world.pinned.add(file)


@rule(1)
def unpin(world: World) -> Iterator[str]:
    for file in sorted(world.pinned)[:1]:
        yield from ended(world.do("backup", "unpin", file), 0)
        world.pinned.discard(file)
