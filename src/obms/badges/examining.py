"""Looking a whole database over: samples by index, contradictions by SQL, whatever its size."""

import json
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import jwt
import sqlalchemy as sa
from openbadgeslib.errors import LibOpenBadgesException
from openbadgeslib.ob3 import decode_encoded_list, set_indices, verify_data_integrity_proof

from obms.badges import Site, credentials, endorsing, keys, proofs, signatures
from obms.badges.images import Asset, judge
from obms.badges.images import find as find_image
from obms.badges.reading import listed
from obms.badges.signers import open_signer
from obms.badges.statuses import DELETED
from obms.domain import PURPOSES, REVOCATION, ProofKind, Purpose
from obms.errors import ObmsError
from obms.schema import (
    BIT_IS_SET,
    achievements,
    api_keys,
    audit_events,
    endorsements,
    images,
    issuers,
    revocations,
    signing_keys,
    status_entries,
    status_lists,
    users,
)
from obms.schema import credentials as table
from obms.specs import Json

# At most this many of each stratum, so that a sample stays at about forty.
FEW, EACH, WINDOW = 2, 12, 2000


def sample(connection: sa.Connection, now: datetime) -> list[credentials.Kept]:
    """The newest, the oldest, some by chance, and of each issuer, key, proof and state that there is."""
    ids = dict.fromkeys(
        found for query in _strata(connection, now) for found in connection.execute(query).scalars()
    )
    return [credentials.find(connection, id) for id in ids]


def newest_moment(connection: sa.Connection) -> datetime | None:
    """When the newest thing in the database was made, changed or taken away."""
    columns = (
        table.c.created_at,
        table.c.updated_at,
        issuers.c.updated_at,
        achievements.c.updated_at,
        endorsements.c.created_at,
        images.c.created_at,
        signing_keys.c.created_at,
        status_lists.c.changed_at,
        revocations.c.revoked_at,
        users.c.created_at,
        api_keys.c.created_at,
        audit_events.c.at,  # of all else that people do
    )
    found = (connection.execute(sa.select(sa.func.max(column))).scalar() for column in columns)
    return max((moment for moment in found if moment is not None), default=None)


def _strata(connection: sa.Connection, now: datetime) -> Iterator[sa.Select[Any]]:
    newest = sa.select(table).order_by(table.c.created_at.desc(), table.c.id.desc())
    oldest = sa.select(table).order_by(table.c.created_at, table.c.id)
    yield newest.with_only_columns(table.c.id).limit(FEW)
    yield oldest.with_only_columns(table.c.id).limit(FEW)
    yield _by_chance(sa.select(table.c.id), table.c.id)
    for column in (table.c.issuer_id, table.c.key_id):
        for (value,) in connection.execute(_values(column)):
            yield sa.select(table.c.id).where(column == value).limit(1)
    for algorithm in keys.ALGORITHMS:
        for state in (signing_keys.c.retired_at.is_(None), signing_keys.c.retired_at.is_not(None)):
            # Of many keys not each has its turn above; each kind has, in use and retired.
            some = sa.select(signing_keys.c.id).where(signing_keys.c.algorithm == algorithm, state)
            latest = some.order_by(signing_keys.c.created_at.desc(), signing_keys.c.id).limit(EACH)
            yield sa.select(table.c.id).where(table.c.key_id.in_(latest)).limit(1)
    for purpose in PURPOSES:
        marked = revocations.join(table, revocations.c.credential_id == table.c.id)
        query = sa.select(table.c.id).select_from(marked).where(revocations.c.purpose == purpose)
        yield query.order_by(revocations.c.credential_id).limit(FEW)
        yield _by_chance(query, revocations.c.credential_id)
    # Neither has an index: looked for among the newest and the oldest only.
    for window in (newest.limit(WINDOW).subquery(), oldest.limit(WINDOW).subquery()):
        for proof in ("data-integrity", "jwt"):
            yield sa.select(window.c.id).where(window.c.proof == proof).limit(FEW)
        yield sa.select(window.c.id).where(window.c.expires_at < now).limit(FEW)


def _by_chance(query: sa.Select[Any], id: sa.ColumnElement[str]) -> sa.Select[Any]:
    """The few that follow an id drawn by lot."""
    return query.where(id >= str(uuid.uuid4())).order_by(id).limit(FEW)


def _values(column: sa.Column[str]) -> sa.Select[Any]:
    (reference,) = column.foreign_keys
    return sa.select(reference.column).order_by(reference.column).limit(EACH)


def disagreements(connection: sa.Connection) -> list[str]:
    """Where the bits of the lists and the revocations contradict each other, both ways, over all rows."""
    both = status_entries.outerjoin(revocations)
    placed = revocations.outerjoin(status_entries)
    count = sa.select(sa.func.count())
    return _complaints(
        connection,
        {
            "bits are set that no revocation explains": count.select_from(both).where(
                status_entries.c.value, revocations.c.credential_id.is_(None), ~DELETED
            ),
            "revocations have their bit cleared": count.select_from(placed).where(~status_entries.c.value),
            "revocations have no place in a list": count.select_from(placed).where(
                status_entries.c.credential_id.is_(None)
            ),
        },
    )


def broken_references(connection: sa.Connection) -> list[str]:
    """What refers to what is not there, or to another's, over all rows."""
    entries = status_entries
    placeless = [
        ~sa.exists().where(entries.c.credential_id == table.c.id, entries.c.purpose == purpose)
        for purpose in PURPOSES
    ]
    gone = ~sa.exists().where(table.c.id == entries.c.credential_id)
    marked = (
        sa.exists()
        .select_from(bits := status_entries.alias())
        .where(bits.c.credential_id == entries.c.credential_id, bits.c.value)
    )
    overfull = (
        sa.select(sa.func.count().label("given"), status_lists.c.next_index)
        .select_from(entries.join(status_lists))
        .group_by(status_lists.c.id, status_lists.c.next_index)
        .subquery()
    )
    return _complaints(
        connection,
        {
            "credentials lack a place in a list": sa.select(sa.func.count())
            .select_from(table)
            .where(sa.or_(*placeless)),
            "places are of credentials that are gone, and nothing is set there": sa.select(sa.func.count())
            .select_from(entries)
            .where(gone, ~marked),
            "credentials are signed by another issuer's key": _foreign(signing_keys),
            "credentials are for another issuer's achievement": _foreign(achievements),
            "lists have given more places than they count": sa.select(sa.func.count())
            .select_from(overfull)
            .where(overfull.c.given > overfull.c.next_index),
        },
    )


def _foreign(other: sa.Table) -> sa.Select[Any]:
    return (
        sa.select(sa.func.count())
        .select_from(table.join(other))
        .where(other.c.issuer_id != table.c.issuer_id)
    )


def _complaints(connection: sa.Connection, queries: dict[str, sa.Select[Any]]) -> list[str]:
    counts = {text: connection.execute(query).scalar_one() for text, query in queries.items()}
    return [f"{count} {text}" for text, count in counts.items() if count]


def misplaced(connection: sa.Connection, kept: credentials.Kept, document: Json) -> bool:
    """Whether a document names other places in the status lists than its rows.

    Where it is revoked it has to name; where it is suspended it may.
    """
    rows = connection.execute(
        sa.select(status_entries).where(status_entries.c.credential_id == kept.id)
    ).all()
    held = {(row.purpose, f"/status-lists/{row.list_id}#{row.position}") for row in rows}
    needed = {place for place in held if place[0] == REVOCATION}
    named = {
        (entry.get("statusPurpose"), "/status-lists/" + str(entry.get("id")).rpartition("/status-lists/")[2])
        for entry in listed(document.get("credentialStatus"))
    }
    return not needed <= named <= held


def lists_to_check(connection: sa.Connection) -> list[sa.RowMapping]:
    """Some lists of each purpose, those with the most bits set first."""
    bits = sa.select(sa.func.count()).where(status_entries.c.list_id == status_lists.c.id, BIT_IS_SET)
    found: list[sa.RowMapping] = []
    for purpose in PURPOSES:
        query = sa.select(status_lists.c.id, status_lists.c.purpose, status_lists.c.issuer_id)
        query = query.where(status_lists.c.purpose == purpose).order_by(
            bits.scalar_subquery().desc(), status_lists.c.id
        )
        found += connection.execute(query.limit(FEW)).mappings()
    return found


def revoked_positions(connection: sa.Connection, list_id: str) -> frozenset[int]:
    """The bits that a list must have set, by revocations and deletions and not by the bits that are kept."""
    query = sa.select(status_entries.c.position).select_from(status_entries.outerjoin(revocations))
    explained = sa.or_(revocations.c.credential_id.is_not(None), DELETED)
    return frozenset(
        connection.execute(query.where(status_entries.c.list_id == list_id, explained)).scalars()
    )


def list_complaint(connection: sa.Connection, row: sa.RowMapping, text: str) -> str | None:
    """What is wrong with a served status list; None if its issuer signed it and it says what the rows say."""
    document = json.loads(text)
    method = str(document["proof"]["verificationMethod"])
    key = keys.read_key(connection, method.rpartition("#")[2])
    if key is None or key.issuer_id != row["issuer_id"]:
        return f"it is signed by {method}, which is no key of its issuer"
    try:
        verify_data_integrity_proof(document, key.public_pem)
    except LibOpenBadgesException as error:
        return str(error)
    subject = document["credentialSubject"]
    if (
        not str(document["id"]).endswith(f"/status-lists/{row['id']}")
        or subject["statusPurpose"] != row["purpose"]
    ):
        return "it is another list"
    served = set_indices(decode_encoded_list(subject["encodedList"]))
    wrong = served ^ revoked_positions(connection, row["id"])
    return f"{len(wrong)} of its bits are not what the rows say" if wrong else None


def keys_that_cannot_sign(connection: sa.Connection, site: Site) -> tuple[list[str], int]:
    """The keys in use whose private part does not fit their public part, and how many were tried.

    KeyMissing if they were sealed with another SECRET_KEY; KeyDamaged if one does not open.
    """
    query = sa.select(signing_keys).where(signing_keys.c.retired_at.is_(None)).order_by(signing_keys.c.id)
    tried = [keys.SigningKey(**row._mapping) for row in connection.execute(query)]
    return [key.id for key in tried if not _signs(site, key)], len(tried)


def _signs(site: Site, key: keys.SigningKey) -> bool:
    text = f"proof of {key.id}"
    token = proofs.make_token({"text": text}, open_signer(site, key))
    try:
        public, alg = signatures.read_public(key.public_pem)
        return bool(jwt.decode(token, public, algorithms=[alg]) == {"text": text})
    except (jwt.InvalidTokenError, ValueError):
        return False


def unopened_images(connection: sa.Connection) -> tuple[list[str], int]:
    """Of a sample the images that are not whole or not of their media type, and how many were looked at."""
    ids = sa.select(images.c.name)
    ends = (ids.order_by(images.c.id).limit(EACH), ids.order_by(images.c.id.desc()).limit(EACH))
    names = dict.fromkeys(name for end in ends for name in connection.execute(end).scalars())
    return [name for name in names if not _opens(find_image(connection, name))], len(names)


def _opens(asset: Asset) -> bool:
    try:
        return judge(asset.content).media_type == asset.media_type
    except ObmsError:
        return False


def forge(kept: credentials.Kept) -> str:
    return forged(kept.document, kept.proof)


def forged(document: str, proof: ProofKind) -> str:
    """The document with one character changed in the middle of what it says of the recipient."""
    if proof == "jwt":
        head, payload, _signature = document.split(".")
        place = len(head) + 1 + len(payload) // 2
    else:
        place = document.index('"identityHash":"') + len('"identityHash":"sha256$') + 5
    other = "A" if document[place] != "A" else "B"
    return document[:place] + other + document[place + 1 :]


def purposes_of(connection: sa.Connection, credential_id: str) -> set[Purpose]:
    """For what a credential is revoked or suspended, by the revocations."""
    query = sa.select(revocations.c.purpose).where(revocations.c.credential_id == credential_id)
    return set(connection.execute(query).scalars())


def is_revoked(connection: sa.Connection, credential_id: str) -> bool:
    return REVOCATION in purposes_of(connection, credential_id)


def counts(connection: sa.Connection, tables: Iterable[sa.Table]) -> dict[str, int]:
    """How many rows of each table the API lists: all but those of deleted issuers."""
    return {
        each.name: connection.execute(
            sa.select(sa.func.count()).select_from(each).where(is_listed(each))
        ).scalar_one()
        for each in tables
    }


def is_listed(each: sa.Table) -> sa.ColumnElement[bool]:
    return each.c.deleted_at.is_(None) if "deleted_at" in each.c else sa.true()


def unproven_endorsements(connection: sa.Connection) -> tuple[list[str], int]:
    """Of a sample of those that are proven the ones whose proof is wrong, and how many were looked at."""
    query = sa.select(endorsements).where(endorsements.c.proven)
    ends = (
        query.order_by(endorsements.c.id).limit(EACH),
        query.order_by(endorsements.c.id.desc()).limit(EACH),
    )
    rows = {row.id: row for end in ends for row in connection.execute(end)}
    return [id for id, row in rows.items() if not _is_proven(connection, row.document)], len(rows)


def _is_proven(connection: sa.Connection, document: str) -> bool:
    try:
        return endorsing.check(connection, document)
    except signatures.BadSignature:
        return False
