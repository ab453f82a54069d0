"""Where credentials stand, as entries of a journal: each enough to set the bit where all else is lost."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from obms.domain import Purpose
from obms.schema import revocations, status_entries, status_lists

BATCH = 1000
# What became of a bit. One that is withdrawn is set for a credential that was deleted.
SET, LIFTED, WITHDRAWN = "set", "lifted", "withdrawn"


def read_standing(connection: sa.Connection, credential_id: str, purpose: Purpose) -> dict[str, Any]:
    """The entry for one bit of a credential; read it in the transaction that changed the bit."""
    this = status_entries.c.credential_id == credential_id
    rows = connection.execute(_places().where(this)).mappings().all()
    return next(_entry(row, rows) for row in rows if row["purpose"] == purpose)


def standings_since(connection: sa.Connection, since: datetime | None) -> Iterator[dict[str, Any]]:
    """The entry of every revocation and suspension that is younger than `since`, or of all.

    What was deleted, and a suspension that was lifted, leave nothing behind that has a time.
    """
    query = _places().where(revocations.c.revoked_at.is_not(None))
    if since is not None:
        query = query.where(revocations.c.revoked_at >= since)
    for batch in connection.execution_options(yield_per=BATCH).execute(query).mappings().partitions():
        ids = {row["credential_id"] for row in batch}
        others = connection.execute(_places().where(status_entries.c.credential_id.in_(ids))).mappings().all()
        places = defaultdict(list)
        for other in others:
            places[other["credential_id"]].append(other)
        for row in batch:
            yield _entry(row, places[row["credential_id"]])


def _places() -> sa.Select[Any]:
    lists = status_lists.c
    return sa.select(
        status_entries,
        lists.issuer_id,
        lists.size,
        lists.changed_at,
        revocations.c.reason,
        revocations.c.revoked_at,
    ).select_from(status_entries.join(status_lists).outerjoin(revocations))


def _entry(row: sa.RowMapping, rows: Sequence[sa.RowMapping]) -> dict[str, Any]:
    """Both places go with it: a credential that has one has the other."""
    since = row["revoked_at"]
    state = LIFTED if not row["value"] else WITHDRAWN if since is None else SET
    at = since if state == SET else row["changed_at"]
    return {
        "at": at.isoformat(),
        "credential": row["credential_id"],
        "issuer": row["issuer_id"],
        "purpose": row["purpose"],
        "state": state,
        "reason": row["reason"],
        "places": sorted([row["purpose"], row["list_id"], row["position"], row["size"]] for row in rows),
    }
