"""What an administrator does to users from the command line, each act in one transaction with its record."""

import getpass
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from obms.badges import Site, access, api_keys, closing, people
from obms.badges.passwords import hash_password
from obms.databases import writing
from obms.errors import Invalid
from obms.gate import ADMIN

User = dict[str, Any]


def _this_user() -> access.Actor:
    """Who may run the command may open the database as well, and so is an administrator."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "unknown"
    return access.Actor(id=f"command:{name}", is_admin=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where it is done; `keep` writes beside the backups what must outlive the database."""

    engine: sa.Engine
    site: Site
    keep: Callable[[Sequence[closing.Entry]], None]
    actor: access.Actor = field(default_factory=_this_user)

    def add(self, username: str, email: str, *, admin: bool, password: str | None) -> User:
        password_hash = hash_password(_long_enough(password)) if password is not None else None
        with self._writing() as (connection, _):
            id = people.add_user(
                connection, self.site, username=username, email=email, password_hash=password_hash
            )
            if admin:
                people.give_role(connection, id, ADMIN, None)
            access.record(connection, self.site, self.actor, "user.create", id, {"admin": admin})
            return people.shown(connection, people.find_user(connection, id))

    def everyone(self) -> list[User]:
        with self.engine.connect() as connection:
            rows, _ = people.list_users(connection, None, 0)
            return [people.shown(connection, row) for row in rows]

    def set_active(self, name: str, *, active: bool) -> User:
        with self._writing() as (connection, entries):
            id = people.find_user(connection, name)["id"]
            entries.extend(closing.set_active(connection, self.site, id, active=active))
            access.record(connection, self.site, self.actor, "user.change", id, {"is_active": active})
            return people.shown(connection, people.find_user(connection, id))

    def set_password(self, name: str, password: str) -> User:
        password_hash = hash_password(_long_enough(password))
        with self._writing() as (connection, _):
            row = people.find_user(connection, name)
            people.set_password(connection, self.site, row["id"], password_hash)
            access.record(connection, self.site, self.actor, "user.password", row["id"])
            return people.shown(connection, row)

    def give(self, name: str, role: str, issuer_id: str | None) -> User:
        with self._writing() as (connection, entries):
            row = people.find_user(connection, name)
            entries.extend(closing.take_role(connection, self.site, self.actor.id, row["id"], issuer_id))
            people.give_role(connection, row["id"], role, issuer_id)
            detail: dict[str, object] = {"role": role, "issuer": issuer_id}
            access.record(connection, self.site, self.actor, "role.give", row["id"], detail)
            return people.shown(connection, row)

    def take(self, name: str, issuer_id: str | None) -> User:
        with self._writing() as (connection, entries):
            row = people.find_user(connection, name)
            entries.extend(closing.take_role(connection, self.site, self.actor.id, row["id"], issuer_id))
            return people.shown(connection, row)

    def add_key(self, name: str, description: str, expires: datetime | None) -> dict[str, Any]:
        ends = expires.replace(tzinfo=UTC) if expires else None
        with self._writing() as (connection, _):
            owner = people.find_user(connection, name)["id"]
            id, key = api_keys.make_key(connection, self.site, owner, description, ends)
            access.record(connection, self.site, self.actor, "api-key.create", id, {"user": owner})
            return {**api_keys.find_key(connection, id), "key": key}

    def list_keys(self, name: str) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            owner = people.find_user(connection, name)["id"]
            return [dict(row) for row in api_keys.list_keys(connection, owner)]

    def revoke_key(self, key_id: str) -> dict[str, Any]:
        with self._writing() as (connection, entries):
            owner = api_keys.find_key(connection, key_id)["user_id"]
            if api_keys.revoke_key(connection, key_id, self.site.clock()):
                access.record(connection, self.site, self.actor, "api-key.revoke", key_id, {"user": owner})
            row = api_keys.find_key(connection, key_id)
            entries.append(closing.closed(closing.KEY, key_id, row["revoked_at"]))
            return dict(row)

    @contextmanager
    def _writing(self) -> Iterator[tuple[sa.Connection, list[closing.Entry]]]:
        """One transaction, and after it the entries that it has to keep."""
        entries: list[closing.Entry] = []
        with writing(self.engine) as connection:
            yield connection, entries
        self.keep(entries)


def _long_enough(password: str) -> str:
    if len(password) < people.SHORTEST_PASSWORD:
        raise Invalid(password=[f"must have at least {people.SHORTEST_PASSWORD} characters"])
    return password
