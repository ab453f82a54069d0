"""Who may do what: actors and their roles, and the record of what they did."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from obms.badges import Site
from obms.databases.many import insert_many
from obms.errors import Forbidden
from obms.gate import ADMIN
from obms.schema import audit_events, user_roles

ADMIN_OF_ENVIRONMENT = "environment"
USER_DELETED = "user.delete"  # the record of it tells who that was


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who asks: an admin may do everything, others what their role at an issuer allows."""

    id: str
    is_admin: bool
    roles: frozenset[tuple[str, str]] = frozenset()

    def issuer_ids(self) -> frozenset[str] | None:
        """The issuers whose credentials the actor may read; None for all."""
        return None if self.is_admin else frozenset(issuer_id for _, issuer_id in self.roles)

    def require_admin(self) -> None:
        if not self.is_admin:
            raise Forbidden

    def require(self, issuer_id: str, *roles: str) -> None:
        """Forbidden unless the actor is an admin or has one of the roles at the issuer."""
        if not self.is_admin and not any((role, issuer_id) in self.roles for role in roles):
            raise Forbidden

    def require_self(self, user_id: str) -> None:
        """Forbidden unless the actor is an admin or this user."""
        if not self.is_admin and self.id != user_id:
            raise Forbidden


def actor_of(connection: sa.Connection, user_id: str) -> Actor:
    """The user with the roles that are kept."""
    query = sa.select(user_roles.c.role, user_roles.c.issuer_id).where(user_roles.c.user_id == user_id)
    rows = connection.execute(query).all()
    return Actor(
        id=user_id,
        is_admin=any(row.role == ADMIN and row.issuer_id is None for row in rows),
        roles=frozenset((row.role, row.issuer_id) for row in rows if row.issuer_id is not None),
    )


def record(
    connection: sa.Connection,
    site: Site,
    actor: Actor,
    action: str,
    subject: str,
    detail: dict[str, object] | None = None,
) -> datetime:
    """Write down who did what, in the same transaction as the deed; when."""
    moment = site.clock()
    values = {"at": moment, "actor": actor.id, "action": action, "subject": subject, "detail": detail}
    connection.execute(sa.insert(audit_events).values(values))
    return moment


def record_all(
    connection: sa.Connection, site: Site, actor: Actor, action: str, subjects: Sequence[str]
) -> None:
    """As `record`, for the same deed to many."""
    common = {"at": site.clock(), "actor": actor.id, "action": action, "detail": None}
    insert_many(connection, audit_events, [{**common, "subject": subject} for subject in subjects])


def list_events(
    connection: sa.Connection, limit: int, offset: int, wanted: dict[str, str]
) -> tuple[list[sa.RowMapping], int]:
    """A page of the events, newest first, and how many there are; `wanted` by column."""
    found = [audit_events.c[name] == value for name, value in wanted.items()]
    total = connection.execute(sa.select(sa.func.count()).select_from(audit_events).where(*found))
    query: sa.Select[Any] = sa.select(audit_events).where(*found).order_by(audit_events.c.id.desc())
    rows = connection.execute(query.limit(limit).offset(offset)).mappings().all()
    return list(rows), total.scalar_one()
