"""Credentials as they are kept: read, listed, and deleted without coming back to life."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from obms.badges import Site, profiles, statuses
from obms.domain import Credential, Evidence, ProofKind, Recipient
from obms.errors import NotFound
from obms.schema import credentials


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

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at < now


def find(connection: sa.Connection, credential_id: str) -> Kept:
    """The kept credential, or NotFound."""
    query = sa.select(credentials).where(credentials.c.id == credential_id)
    row = connection.execute(query).one_or_none()
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


def read(connection: sa.Connection, kept: Kept) -> Credential:
    """The credential in the words of the domain, with the issuer and the achievement as they are now."""
    extra = kept.extra or {}
    return Credential(
        id=kept.id,
        issuer=profiles.find_issuer(connection, kept.issuer_id),
        achievement=profiles.find_achievement(connection, kept.achievement_id),
        recipient=Recipient(**kept.recipient),
        issued_at=kept.issued_at,
        expires_at=kept.expires_at,
        evidence=tuple(Evidence(**evidence) for evidence in extra.get("evidence", ())),
        narrative=extra.get("narrative"),
        image=profiles.read_image(extra.get("image")),
    )


def delete(connection: sa.Connection, site: Site, credential_id: str) -> None:
    """Remove the document and set its bit: others may still hold the badge."""
    statuses.withdraw(connection, site, credential_id)
    if connection.execute(sa.delete(credentials).where(credentials.c.id == credential_id)).rowcount == 0:
        raise NotFound(what="credential", id=credential_id)
