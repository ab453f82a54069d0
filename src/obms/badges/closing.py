"""Doors that were closed stay closed after a restore: revoked keys, closed accounts, roles that were taken.

An entry of the journal tells of each, and the live database tells of those it holds. A user who was
deleted comes back with an older backup, closed. What was given after the backup does not come back.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from obms.badges import Site, people
from obms.badges.access import USER_DELETED
from obms.schema import api_keys, audit_events, user_roles, users

BATCH = 1000
CLOSED, OPENED = "closed", "opened"
KEY, USER, ROLE = "api-key", "user", "role"
ROLE_TAKEN = "role.take"
RESTORE = "restore"

Entry = Mapping[str, Any]


def closed(what: str, id: str, at: datetime, state: str = CLOSED) -> dict[str, Any]:
    """The entry that tells of it."""
    return {"at": at.isoformat(), "state": state, "what": what, "id": id}


def set_active(connection: sa.Connection, site: Site, user_id: str, *, active: bool | None) -> list[Entry]:
    """Close the account or open it again; None leaves it. What is to be kept of it."""
    if active is None:
        return []
    if active:
        changed = people.enable(connection, user_id)
        return [closed(USER, user_id, site.clock(), OPENED)] if changed else []
    people.disable(connection, user_id, site.clock())
    query = sa.select(users.c.disabled_at).where(users.c.id == user_id)
    return [closed(USER, user_id, connection.execute(query).scalar_one())]


def take_role(
    connection: sa.Connection, site: Site, actor: str, user_id: str, issuer_id: str | None
) -> list[Entry]:
    """Take what the user may at the issuer, or everywhere, and record it. What is to be kept of it."""
    gone, moment = people.take_role(connection, user_id, issuer_id), site.clock()
    if gone:
        _record_taken(connection, actor, user_id, gone, moment)
    return [closed(ROLE, id, moment) for id in gone]


def _record_taken(
    connection: sa.Connection, actor: str, user_id: str, gone: list[str], moment: datetime
) -> None:
    values = {"at": moment, "actor": actor, "action": ROLE_TAKEN, "subject": user_id}
    connection.execute(sa.insert(audit_events).values(values | {"detail": {"roles": gone}}))


def closings_since(connection: sa.Connection, since: datetime | None) -> Iterator[dict[str, Any]]:
    """The entry of all that was closed since, or ever, and is not open again."""
    if not _can_be_closed(connection):
        return
    states = ((KEY, api_keys.c.id, api_keys.c.revoked_at), (USER, users.c.id, users.c.disabled_at))
    for what, id, moment in states:
        query: sa.Select[Any] = sa.select(id, moment).where(moment.is_not(None))
        query = query if since is None else query.where(moment >= since)
        for row in connection.execution_options(yield_per=BATCH).execute(query):
            yield closed(what, row[0], row[1])
    told = audit_events.c
    events = sa.select(audit_events).where(told.action.in_((USER_DELETED, ROLE_TAKEN)))
    events = events if since is None else events.where(told.at >= since)
    for event in connection.execution_options(yield_per=BATCH).execute(events):
        if event.action == USER_DELETED:
            yield closed(USER, event.subject, event.at)
        else:
            yield from (closed(ROLE, id, event.at) for id in (event.detail or {}).get("roles", ()))


def _can_be_closed(connection: sa.Connection) -> bool:
    """A database of an older schema has nothing to tell."""
    return any(column["name"] == "disabled_at" for column in sa.inspect(connection).get_columns("users"))


def replay_closings(new: sa.Connection, entries: Iterable[Entry]) -> None:
    """Close in `new` what the entries tell; only one sealed by this server (`own`) opens an account again."""
    for entry in entries:
        moment, id = datetime.fromisoformat(entry["at"]), entry["id"]
        if entry["state"] == OPENED:
            _open_again(new, entry, moment)
        elif entry["what"] == USER:
            people.disable(new, id, moment)
        elif entry["what"] == KEY:
            this = sa.and_(api_keys.c.id == id, api_keys.c.revoked_at.is_(None))
            new.execute(sa.update(api_keys).where(this).values(revoked_at=moment))
        else:
            _take_again(new, id, moment)


def _open_again(new: sa.Connection, entry: Entry, moment: datetime) -> None:
    this = sa.and_(users.c.id == entry["id"], users.c.disabled_at <= moment)
    if entry["own"] and new.execute(sa.select(users.c.id).where(this)).first():
        people.enable(new, entry["id"])


def _take_again(new: sa.Connection, role_id: str, moment: datetime) -> None:
    """Recorded too, so that the next restore knows it as well."""
    query = sa.select(user_roles.c.user_id).where(user_roles.c.id == role_id)
    holder = new.execute(query).scalar()
    if holder is not None:
        new.execute(sa.delete(user_roles).where(user_roles.c.id == role_id))
        _record_taken(new, RESTORE, holder, [role_id], moment)


def carry_closings(old: sa.Connection, new: sa.Connection) -> None:
    """Close in `new` what `old` has closed; a password that was changed since stays changed."""
    replay_closings(new, closings_since(old, None))
    if not _can_be_closed(old):
        return
    changed = sa.select(users.c.id, users.c.password_hash, users.c.sessions_since)
    changed = changed.where(users.c.sessions_since.is_not(None))
    for row in old.execution_options(yield_per=BATCH).execute(changed):
        older = sa.or_(users.c.sessions_since.is_(None), users.c.sessions_since < row.sessions_since)
        values = {"password_hash": row.password_hash, "sessions_since": row.sessions_since}
        new.execute(sa.update(users).where(users.c.id == row.id, older).values(values))
