"""Credentials as they are kept: read, listed, and deleted without coming back to life."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt
import sqlalchemy as sa

from obms.badges import Site, profiles, signatures, statuses
from obms.badges.building import build
from obms.domain import Achievement, Credential, Evidence, Issuer, ProofKind, Recipient, Result
from obms.errors import CredentialDamaged, NotFound
from obms.schema import credentials
from obms.specs import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A row of credentials; `document` is the signed text."""

    id: str
    issuer_id: str
    achievement_id: str
    key_id: str
    proof: ProofKind
    document: str
    recipient: Mapping[str, Any]
    extra: Mapping[str, Any] | None
    issued_at: datetime
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime | None = None

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at < now


FIND = sa.select(credentials).where(credentials.c.id == sa.bindparam("id"))


def find(connection: sa.Connection, credential_id: str) -> Kept:
    """The kept credential, or NotFound."""
    row = connection.execute(FIND, {"id": credential_id}).one_or_none()
    if row is None:
        raise NotFound(what="credential", id=credential_id)
    return Kept(**row._mapping)


def list_page(
    connection: sa.Connection,
    page: profiles.Page,
    *,
    issuer_ids: frozenset[str] | None = None,
    achievement_id: str | None = None,
) -> tuple[list[Kept], int]:
    """A page of all credentials, or of those of some issuers or of one achievement."""
    conditions: list[sa.ColumnElement[bool]] = []
    if issuer_ids is not None:
        conditions.append(credentials.c.issuer_id.in_(issuer_ids))
    if achievement_id is not None:
        conditions.append(credentials.c.achievement_id == achievement_id)
    rows, total = profiles.page_of(connection, credentials, page, *conditions)
    return [Kept(**row) for row in rows], total


def read_document(kept: Kept) -> Json:
    """The credential that was signed, its proof not checked; CredentialDamaged if there is none."""
    try:
        return signatures.read(kept.document, kept.proof)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise CredentialDamaged(id=kept.id) from error


def read_all(connection: sa.Connection, kept: Sequence[Kept]) -> list[Credential]:
    """The credentials in the words of the domain, with issuers and achievements as they are now."""
    known = profiles.find_achievements(connection, (each.achievement_id for each in kept))
    makers = {id: profiles.find_issuer(connection, id) for id in {each.issuer_id for each in kept}}
    return [_read(each, makers[each.issuer_id], known[each.achievement_id]) for each in kept]


def read(connection: sa.Connection, kept: Kept) -> Credential:
    return read_all(connection, [kept])[0]


def _read(kept: Kept, issuer: Issuer, achievement: Achievement) -> Credential:
    extra = kept.extra or {}
    return Credential(
        id=kept.id,
        issuer=issuer,
        achievement=achievement,
        recipient=Recipient(**kept.recipient),
        issued_at=kept.issued_at,
        expires_at=kept.expires_at,
        evidence=build(Evidence, extra.get("evidence", ())),
        narrative=extra.get("narrative"),
        image=profiles.read_image(extra.get("image")),
        results=build(Result, extra.get("results", ())),
    )


def delete(connection: sa.Connection, site: Site, credential_id: str) -> None:
    """Remove the document and set its bit: others may still hold the badge."""
    statuses.withdraw(connection, site, credential_id)
    if connection.execute(sa.delete(credentials).where(credentials.c.id == credential_id)).rowcount == 0:
        raise NotFound(what="credential", id=credential_id)
