"""Who may do what: API keys, kept as hashes, and the roles of their users."""

import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass

import sqlalchemy as sa

from obms.badges import Site
from obms.errors import AuthenticationRequired, Forbidden
from obms.schema import api_keys, audit_events, user_roles

ADMIN_OF_ENVIRONMENT = "environment"


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


def hash_key(key: str) -> str:
    """A key has 256 bits of chance in it, so a plain hash keeps it: there is nothing to guess."""
    return hashlib.sha256(key.encode()).hexdigest()


def authenticate(connection: sa.Connection, site: Site, key: str | None, admin_key: str | None) -> Actor:
    """Who holds the key, or AuthenticationRequired."""
    if not key:
        raise AuthenticationRequired
    if admin_key and hmac.compare_digest(hash_key(key), hash_key(admin_key)):
        return Actor(id=ADMIN_OF_ENVIRONMENT, is_admin=True)
    held = connection.execute(sa.select(api_keys).where(api_keys.c.hash == hash_key(key))).one_or_none()
    now = site.clock()
    if (
        held is None
        or held.revoked_at is not None
        or (held.expires_at is not None and held.expires_at <= now)
    ):
        raise AuthenticationRequired
    return _actor(connection, held.user_id)


def _actor(connection: sa.Connection, user_id: str) -> Actor:
    query = sa.select(user_roles.c.role, user_roles.c.issuer_id).where(user_roles.c.user_id == user_id)
    rows = connection.execute(query).all()
    return Actor(
        id=user_id,
        is_admin=any(row.role == "admin" and row.issuer_id is None for row in rows),
        roles=frozenset((row.role, row.issuer_id) for row in rows if row.issuer_id is not None),
    )


def make_key(connection: sa.Connection, site: Site, user_id: str, description: str) -> str:
    """A new API key of a user; it is shown once, here, and kept only as its hash."""
    key = f"obms_{secrets.token_urlsafe(32)}"
    connection.execute(
        sa.insert(api_keys).values(
            id=str(uuid.uuid4()),
            user_id=user_id,
            description=description,
            hash=hash_key(key),
            created_at=site.clock(),
        )
    )
    return key


def record(
    connection: sa.Connection,
    site: Site,
    actor: Actor,
    action: str,
    subject: str,
    detail: dict[str, object] | None = None,
) -> None:
    """Write down who did what, in the same transaction as the deed."""
    connection.execute(
        sa.insert(audit_events).values(
            at=site.clock(), actor=actor.id, action=action, subject=subject, detail=detail
        )
    )
