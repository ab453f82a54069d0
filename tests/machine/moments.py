"""What a database held at one moment, read in plain SQL, and what must be left of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from obms.badges import examining
from obms.databases import Database
from obms.schema import credentials, issuers, revocations, status_entries, status_lists

# What restores bring together from several places; every other table is that of the backup alone.
STANDING = ("revocations", "status_entries", "status_lists")

Place = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """`digests` are those of all tables but STANDING."""

    digests: Mapping[str, str]
    standing: Mapping[str, str]
    credentials: frozenset[str]
    revoked: frozenset[str]
    suspended: frozenset[str]
    set_bits: frozenset[Place]
    places: Mapping[tuple[str, str], Place]
    issuers: frozenset[str]
    owners: Mapping[str, str]
    complaints: tuple[str, ...]


def read_moment(database: Database) -> Moment | None:
    """None where there is no database that can be read; closes what it opened."""
    try:
        return _read(database) if database.exists() else None
    finally:
        database.engine.dispose()


def _read(database: Database) -> Moment:
    facts = database.facts()
    with database.engine.connect() as connection:
        marks = connection.execute(sa.select(revocations.c.credential_id, revocations.c.purpose)).all()
        entries = connection.execute(sa.select(status_entries)).all()
        return Moment(
            digests={name: found for name, found in facts.digests.items() if name not in STANDING},
            standing={name: facts.digests[name] for name in STANDING},
            credentials=frozenset(connection.execute(sa.select(credentials.c.id)).scalars()),
            revoked=frozenset(mark.credential_id for mark in marks if mark.purpose == "revocation"),
            suspended=frozenset(mark.credential_id for mark in marks if mark.purpose == "suspension"),
            set_bits=frozenset((entry.list_id, entry.position) for entry in entries if entry.value),
            places={
                (entry.credential_id, entry.purpose): (entry.list_id, entry.position) for entry in entries
            },
            issuers=frozenset(connection.execute(sa.select(issuers.c.id)).scalars()),
            owners={row.id: row.issuer_id for row in connection.execute(sa.select(status_lists))},
            complaints=(
                *database.problems(),
                *examining.disagreements(connection),
                *examining.broken_references(connection),
            ),
        )


def same_content(one: Moment | None, other: Moment | None) -> bool:
    """Whether every row is the same."""
    if one is None or other is None:
        return one is other
    return (one.digests, one.standing) == (other.digests, other.standing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Where credentials stand as one place tells it: the database, the journal, or the stores."""

    revoked: frozenset[str] = frozenset()
    suspended: frozenset[str] = frozenset()

    @classmethod
    def of(cls, moment: Moment | None) -> "Held":
        return cls(revoked=moment.revoked, suspended=moment.suspended) if moment else cls()

    def __or__(self, other: "Held") -> "Held":
        return Held(revoked=self.revoked | other.revoked, suspended=self.suspended | other.suspended)

    def told(self, do: str, id: str) -> "Held":
        """The same after one more entry."""
        revoked = self.revoked | {id} if do == "revoke" else self.revoked
        suspended = self.suspended
        if do in ("suspend", "unsuspend"):
            suspended = suspended | {id} if do == "suspend" else suspended - {id}
        return Held(revoked=revoked, suspended=suspended)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What a restore has to give: the content of `source`, at least these marks, and at most those."""

    source: Moment
    least: Held
    most: Held
    places: Mapping[tuple[str, str], Place]

    def complaints(self, found: Moment) -> Iterator[str]:
        if changed := [
            name for name in self.source.digests if found.digests.get(name) != self.source.digests[name]
        ]:
            yield f"the restored tables {changed} are not those of the backup"
        yield from found.complaints
        for purpose, least, most, marked in (
            ("revocation", self.least.revoked, self.most.revoked, found.revoked),
            ("suspension", self.least.suspended, self.most.suspended, found.suspended),
        ):
            if lost := [id for id in least - marked if self._has_room(found, id, purpose)]:
                yield f"the {purpose} of {sorted(lost)} is forgotten"
            if marked - most:
                yield f"a {purpose} of {sorted(marked - most)} was never asked for"

    def _has_room(self, found: Moment, id: str, purpose: str) -> bool:
        """Whether its place can be given to it: its issuer is there, and no other credential stands in it."""
        place = self.places[id, purpose]
        taken = {other: owner for (owner, _), other in found.places.items()}
        return taken.get(place, id) == id
