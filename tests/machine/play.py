"""Playing: a history is drawn from a seed, each step is judged, and a history that fails is cut short."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from obms.backup.manifest import MANIFEST_END
from tests.machine import of_backups, of_badges, of_losses, of_restores
from tests.machine.moments import Moment, same_content
from tests.machine.rules import RULES
from tests.machine.world import NAMED_LIKE_OURS, World

# Each has added its rules to RULES.
PARTS = (of_backups, of_badges, of_losses, of_restores)
LEANINGS = (0, 1, 1, 4)

Open = Callable[[], AbstractContextManager[World]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is done, and the seed of what is drawn in doing it: a step is the same wherever it stands."""

    name: str
    seed: int

    def __str__(self) -> str:
        return f"{self.name}:{self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """How it went: a line for each step, and what was wrong with the last one."""

    lines: Sequence[str]
    complaints: Sequence[str]

    def __str__(self) -> str:
        return "\n".join([*self.lines, *(f"WRONG: {text}" for text in self.complaints)])


def draw(seed: int, steps: int) -> list[Step]:
    """Each history has a leaning of its own: some rules come often in it, and some never."""
    chance = random.Random(seed)  # noqa: S311 - not a secret
    names = list(RULES)
    weights = [weight * chance.choice(LEANINGS) for weight, _ in RULES.values()]
    chosen = chance.choices(names, weights, k=steps)
    return [Step(name=name, seed=chance.randrange(1 << 32)) for name in chosen]


def play(history: Sequence[Step], begin: Open) -> Played:
    """Up to the first step that is wrong."""
    lines = []
    with begin() as world:
        if history and history[0].seed % 3 == 0:
            world.foreign |= NAMED_LIKE_OURS
            world.put_foreign()
        for number, step in enumerate(history, 1):
            complaints = list(_judged(world, step))
            lines.append(f"{number} {step} {world.said}")
            if complaints:
                return Played(lines=lines, complaints=complaints)
    return Played(lines=lines, complaints=())


def shortened(history: Sequence[Step], fails: Callable[[Sequence[Step]], bool]) -> Sequence[Step]:
    """A shorter history that fails too: what can be left out is, first by halves."""
    size = len(history) // 2
    while size:
        place = 0
        while place < len(history):
            shorter = [*history[:place], *history[place + size :]]
            if fails(shorter):
                history = shorter
            else:
                place += size
        size //= 2
    return history


def _judged(world: World, step: Step) -> Iterator[str]:
    """Do the step; then what must hold after each."""
    world.chance = random.Random(step.seed)  # noqa: S311 - not a secret
    world.said = ""
    newest = _newest_proven(world)
    live = world.live
    yield from RULES[step.name][1](world)
    found = world.look()
    if not same_content(world.live, found):
        yield "the live database has changed"
    files = world.images(world.folder)
    if not step.name.startswith(("lose", "damage")):
        yield from _kept(world, files, newest)
    for name, content in world.foreign.items():
        path = world.folder / name
        if not path.exists() or path.read_bytes() != content:
            yield f"the foreign file {name} was touched"
    _remember(world, files, live)
    names = {path.name for path in world.folder.iterdir()}
    world.spoiled = {
        file: ends for file, ends in world.spoiled.items() if {file, file + MANIFEST_END} & names
    }
    world.whole = {name: content for name, content in world.whole.items() if name in names}
    for backup in world.catalog():
        if backup.state == "damaged" and not world.spoiled.get(backup.file):
            yield f"{backup.file} is damaged, and nothing was done to it: {backup.problem}"


def _remember(world: World, files: Sequence[str], live: Moment | None) -> None:
    """What each new image holds: a command makes one of what was live when it began."""
    known = dict(world.local)
    known |= {file: live for file in files if file not in known and live is not None}
    stored = {file: world.stored.get(file) or known.get(file) or live for file in world.images(world.store)}
    world.local = {file: known[file] for file in files if file in known}
    world.stored = {file: moment for file, moment in stored.items() if moment is not None}


def _newest_proven(world: World) -> str | None:
    return next((backup.file for backup in world.catalog() if backup.proven), None)


def _kept(world: World, files: Sequence[str], newest: str | None) -> Iterator[str]:
    now = _newest_proven(world)
    if newest is not None and newest not in files and (now is None or now < newest):
        yield f"the newest proven backup {newest} is gone, and {now} is no newer one"
    if gone := [file for file in world.pinned if file not in files]:
        yield f"pinned backups are gone: {gone}"
