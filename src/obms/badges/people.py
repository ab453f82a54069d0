"""Users: kept, closed, deleted, and given roles, everywhere (admin) or at an issuer."""

import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from obms.badges import Site
from obms.errors import Conflict, Invalid, NotFound
from obms.gate import ADMIN
from obms.schema import api_keys, issuers, user_roles, users

USERNAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
# What is white space, and which characters are controls, every dialect of patterns sees in its own way.
EMAIL = r"^[^@\s\x00-\x20\x7f-\xa0]+@[^@\s\x00-\x20\x7f-\xa0]+$"
SHORTEST_PASSWORD = 12
Row = sa.RowMapping


def add_user(
    connection: sa.Connection, site: Site, *, username: str, email: str, password_hash: str | None
) -> str:
    """The id of a new user, who has no role yet; Conflict where the name or the address is taken."""
    names = {"username": _name("username", username, USERNAME), "email": _name("email", email, EMAIL)}
    _require_free(connection, names)
    id = str(uuid.uuid4())
    values = {"id": id, **names, "password_hash": password_hash, "created_at": site.clock()}
    connection.execute(sa.insert(users).values(values))
    return id


def _name(field: str, text: str, pattern: str) -> str:
    """In small letters, so that nobody is taken for another by their size; a username is no address."""
    if not re.fullmatch(pattern, text):
        raise Invalid(**{field: [f"must match {pattern}"]})
    return text.lower()


def _require_free(connection: sa.Connection, names: dict[str, str], but: str | None = None) -> None:
    for field, name in names.items():
        query = sa.select(users.c.id).where(users.c[field] == name)
        holder = connection.execute(query).scalar()
        if holder not in (None, but):
            raise Conflict(detail=f"There is a user with this {field}")


def change_user(connection: sa.Connection, user_id: str, *, username: str | None, email: str | None) -> None:
    wanted = {
        field: _name(field, text, pattern)
        for field, text, pattern in (("username", username, USERNAME), ("email", email, EMAIL))
        if text is not None
    }
    _require_free(connection, wanted, user_id)
    if wanted:
        connection.execute(sa.update(users).where(users.c.id == user_id).values(wanted))


def find_user(connection: sa.Connection, name: str) -> Row:
    """By id, or else by username or e-mail address; NotFound."""
    row = None
    if "\x00" not in name:
        row = connection.execute(sa.select(users).where(users.c.id == name)).mappings().one_or_none()
        row = row or named(connection, name)
    if row is None:
        raise NotFound(what="user", id=name)
    return row


def named(connection: sa.Connection, name: str) -> Row | None:
    """The user with this username or e-mail address."""
    if "\x00" in name:
        return None
    small = name.lower()
    this = sa.or_(users.c.username == small, users.c.email == small)
    return connection.execute(sa.select(users).where(this)).mappings().first()


def list_users(connection: sa.Connection, limit: int | None, offset: int) -> tuple[Sequence[Row], int]:
    total = connection.execute(sa.select(sa.func.count()).select_from(users)).scalar_one()
    query = sa.select(users).order_by(users.c.created_at, users.c.id).limit(limit).offset(offset)
    return connection.execute(query).mappings().all(), total


def set_password(connection: sa.Connection, site: Site, user_id: str, password_hash: str) -> None:
    """A new password; every session of the user ends."""
    values = {"password_hash": password_hash, "sessions_since": site.clock()}
    connection.execute(sa.update(users).where(users.c.id == user_id).values(values))


def disable(connection: sa.Connection, user_id: str, moment: datetime) -> bool:
    """Close the account: no password, session or key of it opens anything. Whether it was open."""
    open_ones = sa.and_(users.c.id == user_id, users.c.disabled_at.is_(None))
    values = {"disabled_at": moment, "sessions_since": moment}
    return connection.execute(sa.update(users).where(open_ones).values(values)).rowcount > 0


def enable(connection: sa.Connection, user_id: str) -> bool:
    """Open the account again; sessions from before stay ended. Whether it was closed."""
    closed = sa.and_(users.c.id == user_id, users.c.disabled_at.is_not(None))
    return connection.execute(sa.update(users).where(closed).values(disabled_at=None)).rowcount > 0


def delete_user(connection: sa.Connection, user_id: str) -> None:
    """The user, with keys and roles; what the user did stays in the record."""
    for table in (api_keys, user_roles):
        connection.execute(sa.delete(table).where(table.c.user_id == user_id))
    connection.execute(sa.delete(users).where(users.c.id == user_id))


# Roles


def roles_of(connection: sa.Connection, user_id: str) -> list[dict[str, Any]]:
    query = sa.select(user_roles.c.role, user_roles.c.issuer_id).where(user_roles.c.user_id == user_id)
    rows = connection.execute(query.order_by(user_roles.c.role, user_roles.c.issuer_id))
    return [{"role": row.role, **({"issuer": row.issuer_id} if row.issuer_id else {})} for row in rows]


def members_of(connection: sa.Connection, issuer_id: str) -> list[Row]:
    query = sa.select(users.c.id, users.c.username, user_roles.c.role).select_from(users.join(user_roles))
    query = query.where(user_roles.c.issuer_id == issuer_id).order_by(users.c.username)
    return list(connection.execute(query).mappings())


def give_role(connection: sa.Connection, user_id: str, role: str, issuer_id: str | None) -> None:
    """A role at the issuer, or that of admin with no issuer; take the one before in the same transaction."""
    if (role == ADMIN) != (issuer_id is None):
        raise Invalid(role=["is owner, editor or staff at an issuer, or admin at none"])
    if issuer_id is not None and not _is_there(connection, issuers.c.id, issuer_id):
        raise NotFound(what="issuer", id=issuer_id)
    values = {"id": str(uuid.uuid4()), "user_id": user_id, "role": role, "issuer_id": issuer_id}
    connection.execute(sa.insert(user_roles).values(values))


def take_role(connection: sa.Connection, user_id: str, issuer_id: str | None) -> list[str]:
    """Take what the user may at the issuer, or everywhere; the ids of the roles that are gone."""
    # Two who change it at once must not leave two roles.
    connection.execute(sa.select(users.c.id).where(users.c.id == user_id).with_for_update())
    this = sa.and_(user_roles.c.user_id == user_id, user_roles.c.issuer_id.is_not_distinct_from(issuer_id))
    gone = list(connection.execute(sa.select(user_roles.c.id).where(this)).scalars())
    connection.execute(sa.delete(user_roles).where(this))
    return gone


def _is_there(connection: sa.Connection, column: sa.Column[str], value: str) -> bool:
    return connection.execute(sa.select(column).where(column == value)).first() is not None


def shown(connection: sa.Connection, row: Row) -> dict[str, Any]:
    """A user as it may be shown: never the hash of the password."""
    return {
        "id": row["id"],
        "username": row["username"],
        "email": row["email"],
        "roles": roles_of(connection, row["id"]),
        "isActive": row["disabled_at"] is None,
        "createdAt": row["created_at"],
    }
