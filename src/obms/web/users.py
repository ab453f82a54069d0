"""Users: /users for the administrator and for oneself, with the API keys of each."""

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from obms.badges import access, api_keys, closing, people
from obms.badges.passwords import hash_password, is_right
from obms.errors import Invalid, LoginRefused, NotFound
from obms.gate import ADMIN
from obms.specs import iso
from obms.web.auth import NewPassword, Password, UserBody, Username, shown_user
from obms.web.context import TheActor, ThePage, TheServer, announce, reading, writing
from obms.web.limits import client_of
from obms.web.parts import Email, Text, Time

router = APIRouter(prefix="/users", tags=["people"])
ME = "me"


class NewUserBody(UserBody):
    """A new user; without a password it has API keys alone."""

    password: NewPassword | None = Field(None, repr=False)  # type: ignore[assignment]
    admin: bool = False


class ChangeBody(BaseModel):
    """What is to be changed of a user; what is left out stays. Names that are not known are passed over."""

    username: Username | None = None
    email: Email | None = None
    is_active: bool | None = Field(None, alias="isActive")
    admin: bool | None = None


class PasswordBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    current: Password | None = Field(None, alias="currentPassword", repr=False)
    new: NewPassword = Field(alias="newPassword", repr=False)


class KeyBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    description: Text
    expires: Time | None = None


def find(connection: sa.Connection, actor: access.Actor, name: str) -> sa.RowMapping:
    """The user in a path, `me` for oneself. Forbidden to others, who must not learn either who there is."""
    if not actor.is_admin and name not in (ME, actor.id):
        actor.require_admin()
    return people.find_user(connection, actor.id if name == ME else name)


@router.get("")
def list_users(
    request: Request, response: Response, server: TheServer, actor: TheActor, page: ThePage
) -> list[dict[str, Any]]:
    actor.require_admin()
    with reading(server) as connection:
        rows, total = people.list_users(connection, page.limit, page.offset)
        found = [people.shown(connection, row) for row in rows]
    announce(request, response, page, total)
    return [shown_user(user) for user in found]


@router.post("", status_code=201)
def create_user(body: NewUserBody, server: TheServer, actor: TheActor, response: Response) -> dict[str, Any]:
    actor.require_admin()
    password_hash = hash_password(body.password) if body.password else None
    with writing(server) as connection:
        id = people.add_user(
            connection, server.site, username=body.username, email=body.email, password_hash=password_hash
        )
        if body.admin:
            people.give_role(connection, id, ADMIN, None)
        access.record(connection, server.site, actor, "user.create", id, {"admin": body.admin})
        user = people.shown(connection, people.find_user(connection, id))
    response.headers["Location"] = f"{server.site.base_url}/users/{id}"
    return shown_user(user)


@router.get("/{user_id}")
def read_user(user_id: str, server: TheServer, actor: TheActor) -> dict[str, Any]:
    with reading(server) as connection:
        return shown_user(people.shown(connection, find(connection, actor, user_id)))


@router.put("/{user_id}")
@router.patch("/{user_id}", name="patch_user")
def change_user(user_id: str, body: ChangeBody, server: TheServer, actor: TheActor) -> dict[str, Any]:
    actor.require_admin()
    changed = body.model_dump(exclude_none=True)
    with writing(server) as connection:
        id = find(connection, actor, user_id)["id"]
        people.change_user(connection, id, username=body.username, email=body.email)
        entries = closing.set_active(connection, server.site, id, active=body.is_active)
        if body.admin is not None:
            entries += closing.take_role(connection, server.site, actor.id, id, None)
        if body.admin:
            people.give_role(connection, id, ADMIN, None)
        access.record(connection, server.site, actor, "user.change", id, changed)
        user = people.shown(connection, people.find_user(connection, id))
    server.keep(entries)
    return shown_user(user)


@router.delete("/{user_id}", status_code=204)
def delete_user(user_id: str, server: TheServer, actor: TheActor) -> None:
    """The user is gone, with keys and roles; the record of what the user did stays."""
    actor.require_admin()
    with writing(server) as connection:
        row = find(connection, actor, user_id)
        id, name = row["id"], row["username"]
        people.delete_user(connection, id)
        moment = access.record(connection, server.site, actor, access.USER_DELETED, id, {"username": name})
    server.keep([closing.closed(closing.USER, id, moment)])


@router.post("/{user_id}/password", status_code=204)
@router.post("/{user_id}/change-password", status_code=204, name="change_password_too")
def change_password(
    user_id: str, body: PasswordBody, request: Request, server: TheServer, actor: TheActor
) -> None:
    """One's own by the one there is, another's as administrator; every session of the user ends."""
    with reading(server) as connection:
        row = find(connection, actor, user_id)
    if row["id"] == actor.id:
        _require_current(request, row, body.current)
    password_hash = hash_password(body.new)
    with writing(server) as connection:
        people.set_password(connection, server.site, row["id"], password_hash)
        access.record(connection, server.site, actor, "user.password", row["id"])


def _require_current(request: Request, row: sa.RowMapping, current: str | None) -> None:
    """Whoever found an open session must not be able to keep it: guesses here count as failed logins."""
    if current is None:
        raise Invalid(currentPassword=["is needed to change one's own password"])
    client, failures = client_of(request), request.app.state.logins
    failures.require_open(client, row["username"])
    if not is_right(current, row["password_hash"]):
        failures.failed(client, row["username"])
        raise LoginRefused


# API keys


@router.get("/{user_id}/api-keys")
def list_api_keys(user_id: str, server: TheServer, actor: TheActor) -> list[dict[str, Any]]:
    """Each without the key itself, which is nowhere."""
    with reading(server) as connection:
        rows = api_keys.list_keys(connection, find(connection, actor, user_id)["id"])
    return [shown_key(row) for row in rows]


@router.post("/{user_id}/api-keys", status_code=201)
def create_api_key(user_id: str, body: KeyBody, server: TheServer, actor: TheActor) -> dict[str, Any]:
    """A new key, shown this once."""
    with writing(server) as connection:
        owner = find(connection, actor, user_id)["id"]
        id, key = api_keys.make_key(connection, server.site, owner, body.description, body.expires)
        access.record(connection, server.site, actor, "api-key.create", id, {"user": owner})
        row = api_keys.find_key(connection, id)
    return {**shown_key(row), "key": key}


@router.delete("/{user_id}/api-keys/{key_id}", status_code=204)
def revoke_api_key(user_id: str, key_id: str, server: TheServer, actor: TheActor) -> None:
    """From then on it opens nothing, not even after a restore. Revoking twice changes nothing."""
    with writing(server) as connection:
        owner = find(connection, actor, user_id)["id"]
        if "\x00" in key_id or api_keys.find_key(connection, key_id)["user_id"] != owner:
            raise NotFound(what="API key", id=key_id)
        if api_keys.revoke_key(connection, key_id, server.site.clock()):
            access.record(connection, server.site, actor, "api-key.revoke", key_id, {"user": owner})
        moment = api_keys.find_key(connection, key_id)["revoked_at"]
    server.keep([closing.closed(closing.KEY, key_id, moment)])


def shown_key(row: sa.RowMapping) -> dict[str, Any]:
    return {
        "id": row["id"],
        "description": row["description"],
        "createdAt": iso(row["created_at"]),
        "expires": iso(row["expires_at"]) if row["expires_at"] else None,
        "revokedAt": iso(row["revoked_at"]) if row["revoked_at"] else None,
    }
