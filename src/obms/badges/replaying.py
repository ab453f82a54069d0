"""Bringing the entries of a journal into a database that was restored: revocations outlive what held them."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import groupby, islice
from typing import Any

import sqlalchemy as sa

from obms.badges.carrying import (
    BATCH,
    ids_of,
    insert_revocations,
    key_of,
    keys_of,
    place,
    raise_counter,
    set_bits,
)
from obms.badges.closing import CLOSED, OPENED, replay_closings
from obms.badges.standings import LIFTED, SET, WITHDRAWN
from obms.badges.statuses import counter_of
from obms.domain import REVOCATION, SUSPENSION
from obms.schema import credentials, issuers, revocations, status_entries, status_lists

Entry = Mapping[str, Any]


def replay(new: sa.Connection, entries: Iterable[Entry]) -> Iterator[tuple[Entry, int]]:
    """Do to `new` what the entries tell, in their order; gives each that changed something, with its weight.

    1: a revocation or suspension that was not known. -1: a suspension that was lifted later, which
    only an entry sealed by this server may tell (`own`). 0: one that has no place in `new`, since its
    issuer is not there or another credential stands in its place.
    """
    for state, run in groupby(entries, key=lambda entry: entry["state"]):
        while batch := list(islice(run, BATCH)):
            if state == SET:
                yield from _revoke(new, batch)
            elif state == LIFTED:
                yield from ((entry, -1) for entry in batch if entry["own"] and _lift(new, entry))
            elif state == WITHDRAWN:
                _withdraw(new, batch)
            elif state in (CLOSED, OPENED):
                replay_closings(new, batch)


def count_known(old: sa.Connection, entries: Iterable[Entry]) -> int:
    """How many of these revocations and suspensions `old` tells too."""
    source, known = iter(entries), 0
    while batch := [_row(entry) for entry in islice(source, BATCH)]:
        known += len(keys_of(old, revocations, batch) & {key_of(row) for row in batch})
    return known


def count_since(entries: Iterable[Entry], since: datetime) -> int:
    """How many revocations and suspensions were made after `since`, and not taken back."""
    made: set[tuple[str, str]] = set()
    for entry in entries:
        if entry["state"] == SET and datetime.fromisoformat(entry["at"]) > since:
            made.add((entry["credential"], entry["purpose"]))
        elif entry["state"] == LIFTED and entry["own"]:
            made.discard((entry["credential"], entry["purpose"]))
    return len(made)


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "credential_id": entry["credential"],
        "purpose": entry["purpose"],
        "reason": entry["reason"],
        "revoked_at": datetime.fromisoformat(entry["at"]),
    }


def _revoke(new: sa.Connection, batch: list[Entry]) -> Iterator[tuple[Entry, int]]:
    told = {key_of(_row(entry)): entry for entry in reversed(batch)}
    there = keys_of(new, revocations, [_row(entry) for entry in batch])
    missing = {key: entry for key, entry in told.items() if key not in there}
    if not missing:
        return
    _give_places(new, list(missing.values()))
    done = {key_of(row) for row in insert_revocations(new, [_row(entry) for entry in missing.values()])}
    yield from ((entry, int(key in done)) for key, entry in missing.items())


def _give_places(new: sa.Connection, entries: list[Entry]) -> None:
    """Open the lists that `new` lacks, and give the credentials the places that they had in them."""
    _open_lists(new, entries)
    places = {
        (entry["credential"], purpose): {
            "credential_id": entry["credential"],
            "purpose": purpose,
            "list_id": list_id,
            "position": position,
        }
        for entry in entries
        for purpose, list_id, position, _ in entry["places"]
    }
    place(new, list(places.values()))
    counters: dict[str, int] = {}
    for entry in entries:
        for _, list_id, position, size in entry["places"]:
            counter = counter_of(list_id, size, position) + 1
            counters[list_id] = max(counters.get(list_id, 0), counter)
    for list_id, counter in counters.items():
        raise_counter(new, list_id, counter)


def _open_lists(new: sa.Connection, entries: list[Entry]) -> None:
    wanted = {
        list_id: {
            "id": list_id,
            "issuer_id": entry["issuer"],
            "purpose": purpose,
            "size": size,
            "next_index": 0,
            "changed_at": datetime.fromisoformat(entry["at"]),
        }
        for entry in entries
        for purpose, list_id, _, size in entry["places"]
    }
    there = set(new.execute(ids_of(status_lists, list(wanted))).scalars())
    known = set(new.execute(ids_of(issuers, [row["issuer_id"] for row in wanted.values()])).scalars())
    fresh = [row for id, row in wanted.items() if id not in there and row["issuer_id"] in known]
    if fresh:
        new.execute(sa.insert(status_lists), fresh)


def _withdraw(new: sa.Connection, batch: list[Entry]) -> None:
    """Set the bits of credentials that were deleted; one that `new` holds has come back, and stays."""
    there = set(new.execute(ids_of(credentials, [entry["credential"] for entry in batch])).scalars())
    missing = [entry for entry in batch if entry["credential"] not in there]
    if missing:
        _give_places(new, missing)
        rows = [_row(entry) | {"purpose": REVOCATION} for entry in missing]
        set_bits(new, rows, max(row["revoked_at"] for row in rows))


def _lift(new: sa.Connection, entry: Entry) -> bool:
    """Lift a suspension that is older than its lifting; whether there was one."""
    row = _row(entry)
    this = sa.and_(
        revocations.c.credential_id == row["credential_id"],
        revocations.c.purpose == SUSPENSION,
        revocations.c.revoked_at <= row["revoked_at"],
    )
    if new.execute(sa.delete(revocations).where(this)).rowcount == 0:
        return False
    set_bits(new, [row | {"purpose": SUSPENSION}], row["revoked_at"], value=False)
    _forget_unmarked(new, row["credential_id"])
    return True


def _forget_unmarked(new: sa.Connection, credential_id: str) -> None:
    """The places of a credential that is not here are kept only while a bit of it is set."""
    mine = status_entries.c.credential_id == credential_id
    marked = sa.select(status_entries.c.value).where(mine, status_entries.c.value)
    held = new.execute(ids_of(credentials, [credential_id])).first() or new.execute(marked).first()
    if held is None:
        new.execute(sa.delete(status_entries).where(mine))
