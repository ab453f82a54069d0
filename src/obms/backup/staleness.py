"""Whether there is a fresh proven backup, and the watch that tells when there is none any more (S2)."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from obms.backup import Backups
from obms.backup.keeper import WATCH, holding
from obms.backup.run import newest_proven, read_record
from obms.errors import ObmsError
from obms.observe import Event


def is_stale(newest: datetime | None, now: datetime, max_age: timedelta) -> bool:
    """Also when it is said to be from far ahead: a wrong clock made it, and it says nothing of today."""
    return newest is None or abs(now - newest) > max_age


def watch_staleness(backups: Backups, max_age: timedelta) -> Callable[[], None]:
    """To be called now and then: tells once when the backups grow stale, and once when they are fresh.

    A new server that has never made one is given `max_age` to do so.
    """
    began, told = backups.clock(), False

    def look() -> None:
        nonlocal told
        newest, problem = _newest(backups)
        now = backups.clock()
        stale = bool(problem) or is_stale(newest, now, max_age)
        if stale and newest is None and not problem and read_record(backups.storage) is None:
            stale = now - began > max_age
        if stale != told:
            told = stale
            facts = {"newest_proven": newest.isoformat() if newest else None, "problem": problem}
            facts |= {"max_age": str(max_age)}
            backups.notify(Event(name="backup.stale" if stale else "backup.fresh", ok=not stale, facts=facts))

    return look


def watch_alone(folder: Path, look: Callable[[], None]) -> Callable[[], None]:
    """`look` while no other process with the same folder does so already: what it tells is told by one.

    The first one goes on until it ends. Where the folder takes no lock each of them looks.
    """
    hold = holding(folder, WATCH)

    def look_alone() -> None:
        if hold():
            look()

    return look_alone


def _newest(backups: Backups) -> tuple[datetime | None, str | None]:
    """When the newest proven one was made, or why that cannot be told."""
    try:
        found = newest_proven(backups.storage, backups.database.kind, backups.trusted)
    except ObmsError as error:
        return None, str(error)
    return (found.created_at if found else None), None
