"""Credentials to ask a server for: out of its database, or by an API key, as no stranger may list them."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import jwt
import sqlalchemy as sa

from obms.badges import credentials, examining, signatures, statuses
from obms.databases import Database
from obms.domain import ProofKind, Purpose, StatusEntry
from obms.errors import DatabaseUnreachable
from obms.looking.outside import Outside, Unfit
from obms.schema import achievements, issuers
from obms.schema import credentials as table
from obms.specs import Json

COUNTED = (issuers, achievements)
PAGE = 100
One = TypeVar("One")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A credential as its holder has it. `marks` is None where only the server can tell how it stands."""

    id: str
    document: Json
    text: str | None = None
    proof: ProofKind | None = None
    marks: frozenset[Purpose] | None = None
    places: tuple[StatusEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was found, and where; `rows` is how long the public lists must be, where that is known."""

    source: str
    held: tuple[Held, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    named: bool = True


def of_database(database: Database, now: datetime, size: int) -> Sample | None:
    """Some of each kind that there is, and more by chance; None if the database cannot be read."""
    try:
        if not database.exists():
            return None
        with database.engine.connect() as connection:
            found = spread(examining.sample(connection, now), size)
            found += _more(connection, {kept.id for kept in found}, size - len(found))
            return Sample(
                source=f"the {database.kind} database",
                held=tuple(_held(connection, kept) for kept in found),
                rows=examining.counts(connection, COUNTED),
            )
    except (DatabaseUnreachable, sa.exc.SQLAlchemyError):
        return None


def _more(connection: sa.Connection, known: Iterable[str], count: int) -> list[credentials.Kept]:
    """Those that follow an id drawn by lot, and on from the first one."""
    drawn, ids = str(uuid.uuid4()), list[str]()
    for part in (table.c.id >= drawn, table.c.id < drawn):
        query = sa.select(table.c.id).where(part, table.c.id.not_in(known)).order_by(table.c.id)
        ids += connection.execute(query.limit(max(count - len(ids), 0))).scalars()
    return [credentials.find(connection, id) for id in ids]


def _held(connection: sa.Connection, kept: credentials.Kept) -> Held:
    return Held(
        id=kept.id,
        document=_document(kept),
        text=kept.document,
        proof=kept.proof,
        marks=frozenset(examining.purposes_of(connection, kept.id)),
        places=statuses.places_of(connection, kept.id),
    )


def _document(kept: credentials.Kept) -> Json:
    """What it says; nothing where that cannot be read, which its verification will find."""
    try:
        return signatures.read(kept.document, kept.proof)
    except (ValueError, jwt.PyJWTError):
        return {}


def of_key(outside: Outside, key: str, size: int) -> Sample | None:
    """From the first and the last page that this key may list; None if it may not."""
    first = outside.get(f"/credentials?limit={PAGE}", key=key)
    total = first.headers.get("X-Total-Count", "")
    if first.is_error or not total.isdecimal():
        return None
    last = outside.get(f"/credentials?limit={PAGE}&offset={max(int(total) - PAGE, 0)}", key=key)
    listed = {
        str(document.get("id")): document for answer in (first, last) for document in _documents(answer)
    }
    held = (Held(id=id.rpartition("/")[2], document=document) for id, document in listed.items())
    return Sample(source="the API key", held=tuple(spread(list(held), size)))


def _documents(answer: object) -> list[Json]:
    try:
        found = answer.json()  # type: ignore[attr-defined]
    except ValueError:
        raise Unfit("/credentials answers no JSON") from None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def spread(found: Sequence[One], size: int) -> list[One]:
    """So many of them, from all along the row."""
    if len(found) <= size:
        return list(found)
    return [found[number * len(found) // size] for number in range(size)]


NOBODY = Sample(source="nowhere", named=False)
