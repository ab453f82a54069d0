"""When removal is held back: the newest proven one is too small, the clock has leaped, or most would go."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import chain, pairwise

from obms.backup.manifest import Manifest
from obms.backup.retain import Plan, Shelf
from obms.backup.storage import Storage

RECORD = "last_prune.json"
# A table with fewer rows than this may lose half of them on any day.
FEW_ROWS = 10
# Longer than a quarter: a schedule with longer pauses than that is none.
LEAP = timedelta(days=100)
# So many proven ones may go in any run, whatever share of all they are.
FEW_BACKUPS = 2


def why_held(shelf: Shelf, accepted: Mapping[str, str], planned: Plan) -> str | None:
    """Why nothing may be removed now, or None; `accepted` are by kind the ids that it was last allowed at.

    It is told from the backups themselves, not remembered: no crash lets it be forgotten, and it
    ends by itself when a proven backup is as large again, or as many proven ones stay as go.
    """
    return next(chain(_shrunk(shelf, accepted), _leaped(shelf, accepted), _emptied(shelf, planned)), None)


def _shrunk(shelf: Shelf, accepted: Mapping[str, str]) -> Iterator[str]:
    for kind, newest in shelf.newest.items():
        earlier = [backup for backup in shelf.backups if backup.database == kind and backup.proven][:-1]
        # Without a record of what was accepted, none of those that are there may have been larger.
        known = [backup for backup in earlier if backup.id == accepted.get(kind)]
        for backup in () if newest.id == accepted.get(kind) else known or earlier:
            assert newest.manifest is not None
            assert backup.manifest is not None
            if (lost := _what_shrank(newest.manifest, backup.manifest)) is not None:
                yield f"{newest.id} has only {lost} of {backup.id}"


def _what_shrank(new: Manifest, old: Manifest) -> str | None:
    """What the new one has half or less of."""
    if _is_half(new.raw_bytes, old.raw_bytes):
        return f"{new.raw_bytes} of the {old.raw_bytes} bytes"
    if _is_half(sum(new.rows.values()), sum(old.rows.values())):
        return f"{sum(new.rows.values())} of the {sum(old.rows.values())} rows"
    for table, rows in old.rows.items():
        if rows >= FEW_ROWS and _is_half(new.rows.get(table, 0), rows):
            return f"{new.rows.get(table, 0)} of the {rows} {table}"
    return None


def _is_half(new: int, old: int) -> bool:
    return old > 0 and 2 * new <= old


def _leaped(shelf: Shelf, accepted: Mapping[str, str]) -> Iterator[str]:
    places = [backup.place for backup in shelf.backups if backup.id in accepted.values()]
    moments = (
        shelf.moments[backup.file]
        for backup in shelf.backups
        if backup.ours and (not places or backup.place >= max(places))
    )
    for before, after in pairwise(moment for moment in moments if moment is not None):
        if after - before > LEAP:
            yield f"the clock has leaped, or no backup was made from {before:%Y-%m-%d} to {after:%Y-%m-%d}"


def _emptied(shelf: Shelf, planned: Plan) -> Iterator[str]:
    """A clock that is weeks ahead, or the first success after weeks of failures, makes all others old."""
    for kind in shelf.newest:
        good = [backup.file for backup in shelf.backups if backup.database == kind and backup.proven]
        going = {backup.file for backup in planned.remove}.intersection(good)
        if len(going) > max(FEW_BACKUPS, len(good) / 2):
            yield f"{len(going)} of the {len(good)} proven backups of {kind} would be removed at once"


def read_accepted(storage: Storage) -> dict[str, str]:
    """By kind of database, the newest proven one when removal was last allowed; empty if unknown."""
    if RECORD not in set(storage.names(RECORD)):
        return {}
    try:
        accepted = json.loads(b"".join(storage.get(RECORD)))["accepted"]
        return {str(kind): str(id) for kind, id in accepted.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def accept(storage: Storage, shelf: Shelf, now: datetime) -> None:
    """Note that removal is allowed as things stand: the next backup is compared with the newest of now."""
    newest = {kind: backup.id for kind, backup in shelf.newest.items()}
    record = {"at": now.isoformat(), "accepted": newest}
    storage.put(RECORD, iter((json.dumps(record, indent=2).encode() + b"\n",)))
