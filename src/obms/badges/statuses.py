"""Status lists: a place for each credential, what is set there, and the signed list that says so."""

import hashlib
import math
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from openbadgeslib.ob3 import build_status_list_credential

from obms.badges import Site, keys, proofs
from obms.badges.signers import open_signer
from obms.databases.many import insert_many
from obms.domain import PURPOSES, REVOCATION, SUSPENSION, Purpose, Status, StatusEntry
from obms.errors import Conflict, NotFound
from obms.schema import BIT_IS_SET, credentials, issuers, revocations, status_entries, status_lists
from obms.specs import issuer_did, status_list_url

LIST_SIZE = 131_072
# A list is signed anew when half of this is over, so that nobody is shown an old one for longer.
VALIDITY = timedelta(days=7)
TTL = 300_000
REASON_DELETED = "deleted"
# The place of a credential that is not here any more; its bit is set without a revocation.
DELETED = sa.and_(
    status_entries.c.purpose == REVOCATION,
    ~sa.exists().where(credentials.c.id == status_entries.c.credential_id).correlate(status_entries),
)


def scatter(list_id: str, size: int, counter: int) -> int:
    """The position of the n-th credential of a list: each position once, neighbours far apart.

    A list is public; were positions given in order, they would tell who was issued a badge when.
    """
    step, start = _stride(list_id, size)
    return (counter * step + start) % size


def counter_of(list_id: str, size: int, position: int) -> int:
    """The counter that `scatter` gives this position for."""
    step, start = _stride(list_id, size)
    return (position - start) * pow(step, -1, size) % size


@lru_cache(maxsize=4096)
def _stride(list_id: str, size: int) -> tuple[int, int]:
    digest = hashlib.sha256(f"status list {list_id}".encode()).digest()
    step = int.from_bytes(digest[:8]) % size | 1
    while math.gcd(step, size) != 1:
        step += 2
    return step, int.from_bytes(digest[8:16])


def _lock_issuer(connection: sa.Connection, issuer_id: str) -> None:
    """Hold off others who would open a list of this issuer until this transaction ends."""
    held = connection.execute(
        sa.update(issuers).where(issuers.c.id == issuer_id).values(updated_at=issuers.c.updated_at)
    )
    if held.rowcount == 0:
        raise NotFound(what="issuer", id=issuer_id)


def _open_list(
    issuer_id: str | sa.BindParameter[str], purpose: str | sa.BindParameter[str]
) -> sa.Select[Any]:
    lists = status_lists
    return (
        sa.select(lists.c.id)
        .where(lists.c.issuer_id == issuer_id, lists.c.purpose == purpose, lists.c.next_index < lists.c.size)
        .order_by(lists.c.id)
        .limit(1)
    )


def open_lists(connection: sa.Connection, site: Site, issuer_id: str) -> None:
    """See to it that the issuer has a list with room for each purpose, and one only."""
    _lock_issuer(connection, issuer_id)
    for purpose in PURPOSES:
        if connection.execute(_open_list(issuer_id, purpose)).one_or_none() is None:
            connection.execute(sa.insert(status_lists).values(list_row(site, issuer_id, purpose)))


def list_row(site: Site, issuer_id: str, purpose: Purpose, *, id: str | None = None) -> dict[str, Any]:
    """The row of a new empty list."""
    return {
        "id": id or str(uuid.uuid4()),
        "issuer_id": issuer_id,
        "purpose": purpose,
        "size": LIST_SIZE,
        "next_index": 0,
        "changed_at": site.clock(),
    }


def add_list(
    connection: sa.Connection, site: Site, issuer_id: str, purpose: Purpose, *, size: int, ttl: int
) -> sa.RowMapping:
    """Open one list more, of which places are given when its turn has come; NotFound for the issuer."""
    _lock_issuer(connection, issuer_id)
    row = list_row(site, issuer_id, purpose) | {"size": size, "ttl": ttl}
    connection.execute(sa.insert(status_lists).values(row))
    return find_list(connection, row["id"])


def count_set(connection: sa.Connection, list_id: str) -> int:
    """How many bits of a list are set."""
    query = sa.select(sa.func.count()).where(status_entries.c.list_id == list_id, BIT_IS_SET)
    return int(connection.execute(query).scalar_one())


TAKE = (
    sa.update(status_lists)
    .where(
        status_lists.c.id
        == _open_list(sa.bindparam("for_issuer"), sa.bindparam("for_purpose")).scalar_subquery(),
        status_lists.c.next_index + sa.bindparam("wanted") <= status_lists.c.size,
    )
    .values(next_index=status_lists.c.next_index + sa.bindparam("wanted"))
    .returning(status_lists.c.id, status_lists.c.size, status_lists.c.next_index)
)


def take_places(connection: sa.Connection, site: Site, issuer_id: str) -> tuple[StatusEntry, ...]:
    """A place for one new credential in a list of each purpose; never given again, whatever follows."""
    return take_many(connection, site, issuer_id, 1)[0]


def take_many(
    connection: sa.Connection, site: Site, issuer_id: str, count: int
) -> list[tuple[StatusEntry, ...]]:
    """As `take_places`, for so many new credentials."""
    taken = [
        _take_of_one(connection, issuer_id, purpose, count)
        or list(_take_of_several(connection, site, issuer_id, purpose, count))
        for purpose in PURPOSES
    ]
    return list(zip(*taken, strict=True))


def _take_of_one(
    connection: sa.Connection, issuer_id: str, purpose: Purpose, count: int
) -> list[StatusEntry]:
    """The next places of the open list; none where it has no room for all."""
    wanted = {"for_issuer": issuer_id, "for_purpose": purpose, "wanted": count}
    found = connection.execute(TAKE, wanted).one_or_none()
    return _places(found, purpose, found.next_index - count, found.next_index) if found else []


def _places(row: sa.Row[Any], purpose: Purpose, first: int, end: int) -> list[StatusEntry]:
    return [
        StatusEntry(purpose=purpose, list_id=row.id, position=scatter(row.id, row.size, counter))
        for counter in range(first, end)
    ]


def _take_of_several(
    connection: sa.Connection, site: Site, issuer_id: str, purpose: Purpose, count: int
) -> Iterator[StatusEntry]:
    """What is left of the open list, and so on in new ones."""
    lists = status_lists
    query = sa.select(lists).where(lists.c.id == _open_list(issuer_id, purpose).scalar_subquery())
    while count > 0:
        row = connection.execute(
            query.where(lists.c.next_index < lists.c.size).with_for_update()
        ).one_or_none()
        if row is None:
            open_lists(connection, site, issuer_id)
            continue
        given = min(count, row.size - row.next_index)
        counted = sa.update(lists).where(lists.c.id == row.id).values(next_index=row.next_index + given)
        connection.execute(counted)
        yield from _places(row, purpose, row.next_index, row.next_index + given)
        count -= given


def add_entries(connection: sa.Connection, credential_id: str, entries: tuple[StatusEntry, ...]) -> None:
    insert_many(connection, status_entries, entry_rows(credential_id, entries))


def entry_rows(credential_id: str, entries: tuple[StatusEntry, ...]) -> list[dict[str, Any]]:
    """The rows of the places that a new credential has."""
    return [
        {
            "credential_id": credential_id,
            "purpose": entry.purpose,
            "list_id": entry.list_id,
            "position": entry.position,
            "value": False,
        }
        for entry in entries
    ]


def places_of(connection: sa.Connection, credential_id: str) -> tuple[StatusEntry, ...]:
    """The places that a credential has, in the order in which badges name them."""
    query = sa.select(status_entries).where(status_entries.c.credential_id == credential_id)
    found = {row.purpose: row for row in connection.execute(query)}
    return tuple(
        StatusEntry(purpose=purpose, list_id=found[purpose].list_id, position=found[purpose].position)
        for purpose in PURPOSES
        if purpose in found
    )


def read_status(connection: sa.Connection, credential_id: str) -> Status | None:
    """Where a credential stands, by its bits; None if it never had any."""
    rows = connection.execute(
        sa.select(status_entries.c.purpose, revocations.c.reason, revocations.c.revoked_at)
        .select_from(status_entries.outerjoin(revocations))
        .where(status_entries.c.credential_id == credential_id, status_entries.c.value)
    ).all()
    if not rows:
        known = sa.select(status_entries.c.purpose).where(status_entries.c.credential_id == credential_id)
        return Status(revoked=False, suspended=False) if connection.execute(known).first() else None
    facts = {row.purpose: row for row in rows}
    first = facts.get(REVOCATION) or facts[SUSPENSION]
    return Status(
        revoked=REVOCATION in facts,
        suspended=SUSPENSION in facts,
        reason=first.reason if first.revoked_at else REASON_DELETED,
        since=first.revoked_at,
    )


def _set_bit(
    connection: sa.Connection, site: Site, credential_id: str, purpose: Purpose, *, value: bool
) -> bool:
    """Set one bit; whether it was different. NotFound if the credential has no such place."""
    entries = status_entries
    this = sa.and_(entries.c.credential_id == credential_id, entries.c.purpose == purpose)
    # The list first: who signs it holds the same lock, so the bits it reads are those it signs for.
    touched = connection.execute(
        sa.update(status_lists)
        .where(status_lists.c.id == sa.select(entries.c.list_id).where(this).scalar_subquery())
        .values(changed_at=_later(site.clock()), signed_at=None)
    )
    if touched.rowcount == 0:
        raise NotFound(what="credential", id=credential_id)
    return (
        connection.execute(
            sa.update(entries).where(this, entries.c.value != value).values(value=value)
        ).rowcount
        > 0
    )


def _later(now: datetime) -> sa.ColumnElement[Any]:
    """The time now, and never earlier than a list was changed before: clocks of workers differ."""
    held = status_lists.c.changed_at
    return sa.case((held > now, held), else_=sa.literal(now, status_lists.c.changed_at.type))


def _record(
    connection: sa.Connection, site: Site, credential_id: str, purpose: Purpose, reason: str | None
) -> None:
    connection.execute(
        sa.insert(revocations).values(
            credential_id=credential_id, purpose=purpose, reason=reason, revoked_at=site.clock()
        )
    )


def revoke(connection: sa.Connection, site: Site, credential_id: str, reason: str | None = None) -> bool:
    """Revoke for ever; whether it was not revoked before (the first reason stays)."""
    changed = _set_bit(connection, site, credential_id, REVOCATION, value=True)
    if changed:
        _record(connection, site, credential_id, REVOCATION, reason)
    return changed


def withdraw(connection: sa.Connection, site: Site, credential_id: str) -> None:
    """Set the bit of a credential that is being deleted, without a revocation.

    So a restore that brings a deleted credential back brings it back valid, while one that was
    revoked stays revoked.
    """
    _set_bit(connection, site, credential_id, REVOCATION, value=True)


def suspend(connection: sa.Connection, site: Site, credential_id: str, reason: str | None = None) -> bool:
    """Suspend until lifted; whether it was not suspended before. Conflict if it is revoked."""
    changed = _set_bit(connection, site, credential_id, SUSPENSION, value=True)
    status = read_status(connection, credential_id)
    if status and status.revoked:
        raise Conflict(detail=f"The credential {credential_id} is revoked and cannot be suspended")
    if changed:
        _record(connection, site, credential_id, SUSPENSION, reason)
    return changed


def lift_suspension(connection: sa.Connection, site: Site, credential_id: str) -> bool:
    """Lift a suspension; whether there was one."""
    changed = _set_bit(connection, site, credential_id, SUSPENSION, value=False)
    connection.execute(
        sa.delete(revocations).where(
            revocations.c.credential_id == credential_id, revocations.c.purpose == SUSPENSION
        )
    )
    return changed


def find_list(connection: sa.Connection, list_id: str, *, lock: bool = False) -> sa.RowMapping:
    """The row of a list, or NotFound; `lock` holds off changes until the transaction ends."""
    query = sa.select(status_lists).where(status_lists.c.id == list_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None:
        raise NotFound(what="status list", id=list_id)
    return row


def fresh_document(row: sa.RowMapping, now: datetime) -> str | None:
    """The signed list as it is kept, None if it was never signed, was changed since, or is near its end."""
    if row["document"] is None or row["signed_at"] is None or row["signed_at"] < row["changed_at"]:
        return None
    return str(row["document"]) if now - row["signed_at"] < VALIDITY / 2 else None


def sign_list(connection: sa.Connection, site: Site, list_id: str) -> str:
    """The signed list, signed anew if it is stale, and kept."""
    row = find_list(connection, list_id, lock=True)
    if document := fresh_document(row, site.clock()):
        return document
    key = keys.active_key(connection, site, row["issuer_id"])
    document = _signed(site, key, row, set_positions(connection, list_id))
    connection.execute(
        sa.update(status_lists)
        .where(status_lists.c.id == list_id)
        .values(document=document, signed_at=max(site.clock(), row["changed_at"]))
    )
    return document


def set_positions(connection: sa.Connection, list_id: str) -> list[int]:
    query = sa.select(status_entries.c.position).where(status_entries.c.list_id == list_id, BIT_IS_SET)
    return list(connection.execute(query).scalars())


def _signed(site: Site, key: keys.SigningKey, row: sa.RowMapping, positions: list[int]) -> str:
    now = site.clock()
    document = build_status_list_credential(
        issuer_did(site.base_url, row["issuer_id"]),
        status_list_url(site.base_url, row["id"]),
        row["purpose"],
        positions,
        row["size"],
        issued=now,
        valid_until=now + VALIDITY,
        ttl=row["ttl"] or TTL,
    )
    return proofs.add_proof(document, open_signer(site, key), now)


def list_page(connection: sa.Connection, limit: int, offset: int) -> tuple[list[sa.RowMapping], int]:
    """What is known of each list, without its document, and how many lists there are."""
    columns = [column for column in status_lists.c if column.name != "document"]
    query = sa.select(*columns).order_by(status_lists.c.id).limit(limit).offset(offset)
    total = connection.execute(sa.select(sa.func.count()).select_from(status_lists)).scalar_one()
    return list(connection.execute(query).mappings()), total
