"""Places in status lists, and what is set there, brought back: never less than is set live."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from obms.badges.bringing_rows import BATCH, EQUAL, INSERTED, KEPT, REFUSED, Bringing, Outcome
from obms.badges.carrying import Key, Row, key_of, raise_counter, set_bits
from obms.domain import REVOCATION
from obms.schema import credentials, revocations, status_entries, status_lists

ENTRIES, REVOCATIONS, LISTS = status_entries.name, revocations.name, status_lists.name


def bring_lists(bringing: Bringing, condition: sa.ColumnElement[bool]) -> Iterator[Outcome]:
    """Lists that are missing come back closed: who was given a place after the backup is not known."""
    rows = bringing.old.execute(sa.select(status_lists).where(condition)).mappings().all()
    held = sa.select(status_lists.c.id).where(status_lists.c.id.in_([row["id"] for row in rows]))
    there = set(bringing.new.execute(held).scalars())
    for row in rows:
        if row["id"] in there:
            raise_counter(bringing.new, row["id"], row["next_index"])
            yield Outcome(LISTS, EQUAL, row["id"])
        else:
            closed = {**row, "next_index": row["size"], "document": None, "signed_at": None}
            bringing.new.execute(sa.insert(status_lists), closed)
            yield Outcome(LISTS, INSERTED, row["id"])


def bring_orphans(bringing: Bringing, issuer_id: str) -> Iterator[Outcome]:
    """The bits of credentials of an issuer that were deleted, or issued after the backup and revoked."""
    lists = sa.select(status_lists.c.id).where(status_lists.c.issuer_id == issuer_id)
    held = sa.exists().where(credentials.c.id == status_entries.c.credential_id)
    query = (
        sa.select(status_entries.c.credential_id).distinct().where(status_entries.c.list_id.in_(lists), ~held)
    )
    query = query.order_by(status_entries.c.credential_id).limit(BATCH)
    ids = bringing.old.execute(query).scalars().all()
    while ids:
        yield from bring_places(bringing, ids, set())
        ids = bringing.old.execute(query.where(status_entries.c.credential_id > ids[-1])).scalars().all()


def bring_places(bringing: Bringing, ids: Sequence[str], back: set[str]) -> Iterator[Outcome]:
    """The places of these credentials, of which those in `back` were missing, and what is set there."""
    entries, told = _read(bringing.old, ids)
    held, live = _read(bringing.new, ids)
    taken = _takers(bringing.new, [entry for key, entry in entries.items() if key not in held])
    for key, entry in entries.items():
        if outcome := _obstacle(entry, held.get(key), taken):
            yield outcome
            return
    fresh = [entry for key, entry in entries.items() if key not in held]
    if fresh:
        bringing.new.execute(sa.insert(status_entries), [{**entry, "value": False} for entry in fresh])
    yield from (Outcome(ENTRIES, INSERTED if key not in held else EQUAL, _spell(key)) for key in entries)
    wanted = {key: _is_set(entries[key], key, held.get(key), back, told, live) for key in entries}
    missing = [row for key, row in told.items() if key not in live and wanted[key]]
    if missing:
        bringing.new.execute(sa.insert(revocations), [dict(row) for row in missing])
    for key in told:
        what = EQUAL if key in live else INSERTED if wanted[key] else KEPT
        yield Outcome(REVOCATIONS, what, _spell(key), "" if what != KEPT else "lifted since")
    _set(
        bringing,
        [entries[key] for key in entries if wanted[key] != (key in held and held[key]["value"])],
        wanted,
    )


def _spell(key: Key) -> str:
    return " ".join(key)


def _read(connection: sa.Connection, ids: Sequence[str]) -> tuple[dict[Key, Row], dict[Key, Row]]:
    """The places of credentials, and their revocations."""
    return _rows_of(connection, status_entries, ids), _rows_of(connection, revocations, ids)


def _rows_of(connection: sa.Connection, table: sa.Table, ids: Sequence[str]) -> dict[Key, Row]:
    query = sa.select(table).where(table.c.credential_id.in_(ids))
    return {key_of(row): row for row in connection.execute(query).mappings()}


def _takers(new: sa.Connection, entries: Sequence[Row]) -> dict[tuple[str, int], str]:
    """Who stands in these places."""
    spot = sa.tuple_(status_entries.c.list_id, status_entries.c.position)
    query = sa.select(status_entries).where(spot.in_([(row["list_id"], row["position"]) for row in entries]))
    return {(row.list_id, row.position): row.credential_id for row in new.execute(query)}


def _obstacle(entry: Row, held: Row | None, taken: dict[tuple[str, int], str]) -> Outcome | None:
    """A badge names its places, so that it cannot have others."""
    spot = entry["list_id"], entry["position"]
    if held is not None and (held["list_id"], held["position"]) != spot:
        return Outcome(ENTRIES, REFUSED, _spell(key_of(entry)), "it has another place now")
    if held is None and spot in taken:
        return Outcome(ENTRIES, REFUSED, _spell(key_of(entry)), f"{taken[spot]} stands in its place now")
    return None


def _is_set(
    entry: Row, key: Key, held: Row | None, back: set[str], told: dict[Key, Row], live: dict[Key, Row]
) -> bool:
    """Whether the bit has to be set: as it was for a credential that came back, else as it is live.

    Each revocation stays. The bit of a deletion alone is cleared when what was deleted comes back.
    """
    if key in live:
        return True
    if held is None or key[0] in back:
        return bool(entry["value"])
    return bool(held["value"]) or (key in told and key[1] == REVOCATION)


def _set(bringing: Bringing, entries: Sequence[Row], wanted: dict[Key, Any]) -> None:
    for value in (True, False):
        rows = [entry for entry in entries if wanted[key_of(entry)] is value]
        if rows:
            set_bits(bringing.new, rows, bringing.site.clock(), value=value)
