"""Bringing single badges and issuers back from an older copy into the live database."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from obms.badges import Site, access
from obms.badges.bringing_places import bring_lists, bring_orphans, bring_places
from obms.badges.bringing_rows import BATCH, KEPT, REFUSED, Bringing, Outcome, bring_rows, missing_ids
from obms.errors import ConfigurationError, RowNotFound
from obms.schema import (
    achievements,
    credentials,
    endorsements,
    images,
    issuers,
    related_achievements,
    signing_keys,
    status_entries,
    status_lists,
)

ASSETS = "/assets/"
ACTOR = access.Actor(id="obms restore --only", is_admin=True)


def bring(
    old: sa.Connection,
    new: sa.Connection,
    wanted: Sequence[str],
    *,
    origin: str,
    overwrite: bool,
    site: Site,
) -> Iterator[Outcome]:
    """Bring what is wanted, as `issuer=ID` or `credential=ID`, with all it needs; what became of each row.

    What is asked for and differs is refused, or overwritten; what is only needed for it and differs
    is kept as it is. A revocation is never taken back, and a place never given twice. `origin` is
    the backup that `old` was made of, for the audit.
    """
    bringing = Bringing(old=old, new=new, overwrite=overwrite, site=site)
    for text in wanted:
        what, _, id = text.partition("=")
        if what not in WANTED or not id:
            raise ConfigurationError(
                detail=f"--only {text} names neither an issuer nor a credential",
                hint="Write --only issuer=ID or --only credential=ID.",
            )
        yield from WANTED[what](bringing, id)
        access.record(new, site, ACTOR, f"{what}.bring_back", id, {"backup": origin})


def _bring_issuer(bringing: Bringing, id: str) -> Iterator[Outcome]:
    """The issuer with its achievements, keys, lists and credentials, and the bits of deleted ones."""
    _require(bringing, issuers, id)
    yield from _bring(bringing, issuers, issuers.c.id == id)
    yield from _bring_achievements(bringing, achievements.c.issuer_id == id)
    yield from _bring_keys(bringing, signing_keys.c.issuer_id == id)
    yield from bring_lists(bringing, status_lists.c.issuer_id == id)
    for ids in _batches(bringing.old, sa.select(credentials.c.id).where(credentials.c.issuer_id == id)):
        yield from _bring_credentials(bringing, ids)
    yield from bring_orphans(bringing, id)


def _bring_credential(bringing: Bringing, id: str) -> Iterator[Outcome]:
    """The credential with its issuer, achievement and key, where they are missing."""
    row = _require(bringing, credentials, id)
    yield from _bring(bringing, issuers, issuers.c.id == row["issuer_id"], asked=False)
    yield from _bring_achievements(bringing, achievements.c.id == row["achievement_id"], asked=False)
    yield from _bring_keys(bringing, signing_keys.c.id == row["key_id"])
    lists = sa.select(status_entries.c.list_id).where(status_entries.c.credential_id == id)
    yield from bring_lists(bringing, status_lists.c.id.in_(lists))
    yield from _bring_credentials(bringing, [id])


def _bring_achievements(
    bringing: Bringing, condition: sa.ColumnElement[bool], *, asked: bool = True
) -> Iterator[Outcome]:
    """Achievements, and beside those that were missing what stood beside them."""
    ids = bringing.old.execute(sa.select(achievements.c.id).where(condition)).scalars().all()
    back = missing_ids(bringing.new, achievements, ids)
    yield from _bring(bringing, achievements, condition, asked=asked)
    for table in (related_achievements, endorsements):
        mine = table.c.achievement_id.in_(ids if asked else back)
        yield from bring_rows(bringing, table, _rows(bringing, table, mine), asked=asked)


WANTED: Mapping[str, Callable[[Bringing, str], Iterator[Outcome]]] = {
    "issuer": _bring_issuer,
    "credential": _bring_credential,
}


def _require(bringing: Bringing, table: sa.Table, id: str) -> sa.RowMapping:
    row = bringing.old.execute(sa.select(table).where(table.c.id == id)).mappings().one_or_none()
    if row is None:
        raise RowNotFound(what=table.name.removesuffix("s"), id=id)
    return row


def _batches(old: sa.Connection, query: sa.Select[Any]) -> Iterator[Sequence[str]]:
    """Ids in their order. Asked for anew each time: no cursor stays open while others read."""
    (id,) = query.selected_columns
    query = query.order_by(id).limit(BATCH)
    ids = old.execute(query).scalars().all()
    while ids:
        yield ids
        ids = old.execute(query.where(id > ids[-1])).scalars().all()


def _bring_credentials(bringing: Bringing, ids: Sequence[str]) -> Iterator[Outcome]:
    back = missing_ids(bringing.new, credentials, ids)
    yield from _bring(bringing, credentials, credentials.c.id.in_(ids))
    yield from bring_places(bringing, ids, back)


def _bring(
    bringing: Bringing, table: sa.Table, condition: sa.ColumnElement[bool], *, asked: bool = True
) -> Iterator[Outcome]:
    """The rows, and before them the pictures that they show."""
    rows = _rows(bringing, table, condition)
    for name in sorted({name for row in rows for name in _picture_names(row)}):
        yield from bring_rows(bringing, images, _rows(bringing, images, images.c.name == name), by="name")
    yield from bring_rows(bringing, table, rows, asked=asked)


def _rows(bringing: Bringing, table: sa.Table, condition: sa.ColumnElement[bool]) -> Sequence[sa.RowMapping]:
    return bringing.old.execute(sa.select(table).where(condition)).mappings().all()


def _picture_names(row: sa.RowMapping) -> Iterator[str]:
    for image in (row.get("image"), (row.get("extra") or {}).get("image")):
        url = str((image or {}).get("url", ""))
        if ASSETS in url:
            yield url.rpartition(ASSETS)[2]


def _bring_keys(bringing: Bringing, condition: sa.ColumnElement[bool]) -> Iterator[Outcome]:
    """Keys that badges were signed with; one that another has replaced meanwhile comes back as retired."""
    rows = [dict(row) for row in _rows(bringing, signing_keys, condition)]
    held = {
        (key.issuer_id, key.algorithm): key.id
        for key in bringing.new.execute(sa.select(signing_keys).where(signing_keys.c.retired_at.is_(None)))
    }
    for row in rows:
        if (
            row["retired_at"] is None
            and held.get((row["issuer_id"], row["algorithm"]), row["id"]) != row["id"]
        ):
            row["retired_at"] = bringing.site.clock()
    for outcome in bring_rows(bringing, signing_keys, rows):
        # A badge verifies by the key that it names, and by no other one of that name.
        clash = outcome.what == KEPT and "public_pem" in outcome.detail
        yield outcome._replace(what=REFUSED, detail="another key has its id") if clash else outcome
