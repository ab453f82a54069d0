"""Carrying revocations from a live database into one that is restored over it: a restore never un-revokes."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from obms.badges.statuses import DELETED
from obms.schema import credentials, issuers, revocations, status_entries, status_lists

BATCH = 1000

Key = tuple[str, str]
Row = sa.RowMapping | dict[str, Any]


def carry_revocations(old: sa.Connection, new: sa.Connection) -> int:
    """Bring each revocation and suspension of `old` that `new` lacks over into it; how many.

    Lists opened after the backup come over too where their issuer is there, and the counter of
    each list is raised, so that a place is never given twice. A suspension that was lifted after
    the backup stays suspended: that errs on the safe side, and lifting it again is one request.
    A credential that was deleted comes back with the backup; where the backup does not hold it,
    its bit comes over.
    """
    _carry_lists(old, new)
    _carry_deletions(old, new)
    return sum(_carry_batch(old, new, batch) for batch in _batches(old))


def _carry_lists(old: sa.Connection, new: sa.Connection) -> None:
    columns = [column for column in status_lists.c if column.name not in ("document", "signed_at")]
    for batch in old.execution_options(yield_per=BATCH).execute(sa.select(*columns)).mappings().partitions():
        there = set(new.execute(ids_of(status_lists, [row["id"] for row in batch])).scalars())
        known = set(new.execute(ids_of(issuers, [row["issuer_id"] for row in batch])).scalars())
        fresh = [dict(row) for row in batch if row["id"] not in there and row["issuer_id"] in known]
        if fresh:
            new.execute(sa.insert(status_lists), fresh)
        for row in batch:
            raise_counter(new, row["id"], row["next_index"])


def ids_of(table: sa.Table, ids: Sequence[str]) -> sa.Select[Any]:
    return sa.select(table.c.id).where(table.c.id.in_(set(ids)))


def raise_counter(new: sa.Connection, list_id: str, next_index: int) -> None:
    """So that no place is given twice."""
    new.execute(
        sa.update(status_lists)
        .where(status_lists.c.id == list_id, status_lists.c.next_index < next_index)
        .values(next_index=sa.case((status_lists.c.size < next_index, status_lists.c.size), else_=next_index))
    )


def _batches(old: sa.Connection) -> Iterator[Sequence[sa.RowMapping]]:
    """The revocations of `old`, each with its place, in the order of their keys."""
    query = sa.select(revocations, status_entries.c.list_id, status_entries.c.position).select_from(
        revocations.join(status_entries)
    )
    key = sa.tuple_(revocations.c.credential_id, revocations.c.purpose)
    query = query.order_by(revocations.c.credential_id, revocations.c.purpose).limit(BATCH)
    rows = old.execute(query).mappings().all()
    while rows:
        yield rows
        last = rows[-1]
        rows = old.execute(query.where(key > (last["credential_id"], last["purpose"]))).mappings().all()


def _carry_deletions(old: sa.Connection, new: sa.Connection) -> None:
    """Bring over the set bits of credentials that were deleted, and that `new` does not hold either."""
    query = sa.select(status_entries, status_lists.c.changed_at).join(status_lists)
    for batch in old.execute(query.where(status_entries.c.value, DELETED)).mappings().partitions(BATCH):
        there = set(new.execute(ids_of(credentials, [row["credential_id"] for row in batch])).scalars())
        missing = [row for row in batch if row["credential_id"] not in there]
        if missing:
            _carry_entries(old, new, missing)
            set_bits(new, missing, max(row["changed_at"] for row in missing))


def _carry_batch(old: sa.Connection, new: sa.Connection, batch: Sequence[Row]) -> int:
    there = keys_of(new, revocations, batch)
    missing = [row for row in batch if key_of(row) not in there]
    if not missing:
        return 0
    _carry_entries(old, new, missing)
    return len(insert_revocations(new, missing))


def key_of(row: Row) -> Key:
    return row["credential_id"], row["purpose"]


def keys_of(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> set[Key]:
    ids = {row["credential_id"] for row in rows}
    query = sa.select(table.c.credential_id, table.c.purpose).where(table.c.credential_id.in_(ids))
    return {(row.credential_id, row.purpose) for row in connection.execute(query)}


def _carry_entries(old: sa.Connection, new: sa.Connection, rows: Sequence[Row]) -> None:
    """Both places of each credential that has none in `new`, where the list is there."""
    placed = keys_of(new, status_entries, rows)
    ids = {row["credential_id"] for row in rows if key_of(row) not in placed}
    if ids:
        query = sa.select(status_entries).where(status_entries.c.credential_id.in_(ids))
        place(new, old.execute(query).mappings().all())


def place(new: sa.Connection, entries: Sequence[Row]) -> None:
    """Give credentials their places in `new`, with no bit set, where they have none and the list is there."""
    lists = set(new.execute(ids_of(status_lists, [entry["list_id"] for entry in entries])).scalars())
    taken = keys_of(new, status_entries, entries)
    # After two histories have parted, another credential may stand in the place: it keeps it.
    occupied = _occupied(new, entries)
    fresh: dict[tuple[str, int], dict[str, Any]] = {}
    for entry in entries:
        spot = entry["list_id"], entry["position"]
        if entry["list_id"] in lists and key_of(entry) not in taken and spot not in occupied:
            fresh.setdefault(spot, {**entry, "value": False})
    if fresh:
        new.execute(sa.insert(status_entries), list(fresh.values()))


def _occupied(new: sa.Connection, rows: Sequence[Row]) -> set[tuple[str, int]]:
    spot = sa.tuple_(status_entries.c.list_id, status_entries.c.position)
    places = [(row["list_id"], row["position"]) for row in rows]
    query = sa.select(status_entries.c.list_id, status_entries.c.position).where(spot.in_(places))
    return {(row.list_id, row.position) for row in new.execute(query)}


def insert_revocations(new: sa.Connection, rows: Sequence[Row]) -> list[Row]:
    """Record them and set their bits; gives those that have a place."""
    placed = keys_of(new, status_entries, rows)
    names = [column.name for column in revocations.c]
    carried = [row for row in rows if key_of(row) in placed]
    if carried:
        new.execute(sa.insert(revocations), [{name: row[name] for name in names} for row in carried])
        set_bits(new, carried, max(row["revoked_at"] for row in carried))
    return carried


def set_bits(new: sa.Connection, rows: Sequence[Row], changed_at: datetime, *, value: bool = True) -> None:
    """Set the bits, or clear them, and have the lists in which one changed signed anew."""
    entries, held = status_entries, status_lists.c.changed_at
    latest = sa.literal(changed_at, held.type)
    for purpose in {row["purpose"] for row in rows}:
        ids = [row["credential_id"] for row in rows if row["purpose"] == purpose]
        here = sa.and_(
            entries.c.credential_id.in_(ids), entries.c.purpose == purpose, entries.c.value != value
        )
        new.execute(
            sa.update(status_lists)
            .where(status_lists.c.id.in_(sa.select(entries.c.list_id).where(here)))
            .values(changed_at=sa.case((held < latest, latest), else_=held), signed_at=None)
        )
        new.execute(sa.update(entries).where(here).values(value=value))
