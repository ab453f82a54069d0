"""Which points of a command are shot at: all of them, or those that decide and a drawn sample of the rest."""

import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from tests.faults.killer import Mode, Shot

WRITES = ("write ", "pwrite", "writev ", "sendfile ", "copy_file_range ")
RENAMES = ("rename ", "renameat", "link ", "linkat ")
REMOVALS = ("unlink ", "unlinkat ", "rmdir ")
SYNCS = ("fsync ", "fdatasync ")
# What makes, renames and removes a database, or comes between; a COMMIT counts once the switch has begun.
STATEMENTS = ("CREATE DATABASE", "ALTER DATABASE", "DROP DATABASE", "LOCK TABLE", "pg_terminate_backend")
COMMIT = "COMMIT"
WORK = "/.work/"  # scratch copies: what is left of them is swept, whatever it is


def full() -> bool:
    """Whether every point is wanted: OBMS_SWEEP=full."""
    return os.environ.get("OBMS_SWEEP") == "full"


def seed() -> int:
    """The sample's seed: another one each day, unless OBMS_SWEEP_SEED sets it."""
    return int(os.environ.get("OBMS_SWEEP_SEED") or datetime.now(UTC).date().toordinal())


def choose(points: Sequence[str], *, share: float, drawn: int) -> list[Shot]:
    """Every point in each mode that makes a difference; or a `share` of the deciding and `drawn` others."""
    deciding = list(_deciding(points))
    rest = [shot for number, point in enumerate(points, 1) for shot in _at(number, point)]
    if full():
        return deciding + rest
    chance = random.Random(seed())  # noqa: S311 - not a secret
    return chance.sample(deciding, round(share * len(deciding))) + chance.sample(rest, min(drawn, len(rest)))


def _at(number: int, point: str) -> Iterator[Shot]:
    yield Shot(number=number, mode=Mode.before)
    if point.startswith(WRITES):
        yield Shot(number=number, mode=Mode.half)
        yield Shot(number=number, mode=Mode.after)


def _deciding(points: Sequence[str]) -> Iterator[Shot]:
    """Named by what they are, not by their place: threads and waiting change how many come before them."""
    seen = Counter[str]()
    switching = False
    for point in points:
        call = point.split(" ", maxsplit=1)[0] + " "
        statement = next((name for name in (*STATEMENTS, COMMIT) if name in point), None)
        switching = switching or statement == "LOCK TABLE"
        seen.update([call] if statement is None else [call, statement])
        if statement in STATEMENTS or (statement == COMMIT and switching):
            yield Shot(text=str(statement), number=seen[str(statement)])
            if statement == COMMIT:  # the server makes the switch, and nobody hears of it
                yield Shot(text=COMMIT, number=seen[COMMIT], mode=Mode.after)
        elif point.startswith(RENAMES) or (point.startswith(REMOVALS) and WORK not in point):
            yield Shot(text=call, number=seen[call])
    yield from (Shot(number=number) for number in (*_first_syncs(points), *_edges(points)))


def _first_syncs(points: Sequence[str]) -> list[int]:
    """The first sync of each file; of those that a backup on PostgreSQL has too, SQLite's tell enough."""
    if any(point.startswith("send ") for point in points):
        return []
    found: dict[str, int] = {}
    for number, point in enumerate(points, 1):
        if point.startswith(SYNCS) and WORK not in point:
            found.setdefault(place(point), number)
    return list(found.values())


def _edges(points: Sequence[str]) -> list[int]:
    """The first and the last write of each file with more than one: the live database, its log."""
    found: dict[str, list[int]] = {}
    for number, point in enumerate(points, 1):
        if point.startswith(WRITES) and WORK not in point:
            found.setdefault(place(point), []).append(number)
    return [number for numbers in found.values() if len(numbers) > 1 for number in (numbers[0], numbers[-1])]


def place(point: str) -> str:
    """The point without what is different in each run: random names and times."""
    plain = re.sub(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", "TIME", point)
    plain = re.sub(r"(scratch|spool)-\w{8}", r"\1", plain)
    return re.sub(r"[0-9a-f]{8,32}", "ID", plain)
