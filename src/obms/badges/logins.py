"""Who asks: by an API key, a password or a session's token."""

import hmac
import math
from datetime import UTC, datetime

import jwt
import sqlalchemy as sa

from obms.badges import Site
from obms.badges.access import ADMIN_OF_ENVIRONMENT, USER_DELETED, Actor, actor_of
from obms.badges.passwords import is_right
from obms.errors import AuthenticationRequired, LoginRefused
from obms.gate import ADMIN, Gate, hash_key
from obms.schema import api_keys, audit_events, users

ALGORITHM = "HS256"
AUDIENCE = "obms session"
TOKEN_KEY = "session tokens 1"  # noqa: S105 - the name of what the key is derived for


def by_key(connection: sa.Connection, site: Site, gate: Gate, key: str, admin_key: str | None) -> Actor:
    """Who holds the API key, or AuthenticationRequired."""
    known = by_admin_key(key, admin_key)
    if known is not None:
        return known
    opened = [kept.user_id for kept in gate.keys if kept.opens(key)]
    if opened:
        user_id = opened[0]
        return _of_environment(connection, user_id, is_admin=user_id == ADMIN) or _operator(
            connection, user_id
        )
    query = sa.select(api_keys.c.user_id, api_keys.c.revoked_at, api_keys.c.expires_at, users.c.disabled_at)
    query = query.select_from(api_keys.join(users)).where(api_keys.c.hash == hash_key(key))
    held = connection.execute(query).one_or_none()
    if held is None or held.revoked_at is not None or held.disabled_at is not None:
        raise AuthenticationRequired
    if held.expires_at is not None and held.expires_at <= site.clock():
        raise AuthenticationRequired
    return actor_of(connection, held.user_id)


def by_admin_key(key: str, admin_key: str | None) -> Actor | None:
    """The admin of the environment, if this is their key; known also where the database is lost."""
    if admin_key and hmac.compare_digest(hash_key(key), hash_key(admin_key)):
        return Actor(id=ADMIN_OF_ENVIRONMENT, is_admin=True)
    return None


def _of_environment(connection: sa.Connection, user_id: str, *, is_admin: bool) -> Actor | None:
    """A key or name of the environment: what the user of the database may that it names, if it names one."""
    if is_admin:
        return Actor(id=user_id, is_admin=True)
    this = sa.or_(users.c.id == user_id, users.c.username == user_id.lower())
    row = connection.execute(sa.select(users.c.id, users.c.disabled_at).where(this)).first()
    if row is not None and row.disabled_at is not None:
        raise AuthenticationRequired
    return None if row is None else actor_of(connection, row.id)


def _operator(connection: sa.Connection, user_id: str) -> Actor:
    """Whoever sets the environment rules the server: a key that names nobody here is the operator's own.

    AuthenticationRequired where it names a user who was deleted: taking somebody away gives no rights.
    """
    query = sa.select(audit_events.c.subject, audit_events.c.detail).where(
        audit_events.c.action == USER_DELETED
    )
    for subject, detail in connection.execute(query):
        if user_id in (subject, (detail or {}).get("username")):
            raise AuthenticationRequired
    return Actor(id=user_id, is_admin=True)


def by_environment(connection: sa.Connection, gate: Gate, name: str, password: str) -> Actor | None:
    """Who has this name and password in the environment."""
    for user in gate.users:
        if user.opens(password) and user.name == name.lower():
            found = _of_environment(connection, user.user_id, is_admin=user.is_admin)
            return found or Actor(id=user.user_id, is_admin=False)
    return None


def by_password(row: sa.RowMapping | None, password: str) -> str:
    """The id of the user, or LoginRefused; that takes as long where there is no such user."""
    right = is_right(password, row["password_hash"] if row is not None else None)
    if row is None or not right or row["disabled_at"] is not None:
        raise LoginRefused
    return str(row["id"])


def make_token(site: Site, gate: Gate, user_id: str) -> str:
    """What opens a session of the user, until it expires or the password changes."""
    now = site.clock()
    claims = {
        "sub": user_id,
        "aud": AUDIENCE,
        "iat": now.timestamp(),
        "exp": math.ceil((now + gate.session).timestamp()),
    }
    return jwt.encode(claims, _token_key(site), algorithm=ALGORITHM)


def by_token(connection: sa.Connection, site: Site, token: str) -> Actor:
    """Whose session it is, or AuthenticationRequired."""
    try:
        claims = jwt.decode(
            token,
            _token_key(site),
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            options={"require": ["sub", "iat", "exp"]},
        )
    except (jwt.PyJWTError, ValueError):
        raise AuthenticationRequired from None
    query = sa.select(users.c.disabled_at, users.c.sessions_since).where(users.c.id == claims["sub"])
    row = connection.execute(query).one_or_none()
    if row is None or row.disabled_at is not None:
        raise AuthenticationRequired
    began = datetime.fromtimestamp(claims["iat"], UTC)
    if row.sessions_since is not None and began < row.sessions_since:
        raise AuthenticationRequired
    return actor_of(connection, claims["sub"])


def _token_key(site: Site) -> bytes:
    return site.require_seal().derive(TOKEN_KEY, 32)
