"""Logins: POST /auth/login and register, GET /auth/profile."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from obms.badges import access, logins, people
from obms.badges.passwords import hash_password
from obms.errors import Forbidden, NotFound
from obms.specs import iso
from obms.web.answers import refused
from obms.web.context import TheActor, TheServer, reading, sign_in, writing
from obms.web.parts import Email, Name

router = APIRouter(prefix="/auth", tags=["people"])
# Argon2 takes any length; what is longer than this is no password but an attack.
LONGEST_PASSWORD = 1024
Password = Annotated[str, Field(min_length=1, max_length=LONGEST_PASSWORD)]
NewPassword = Annotated[str, Field(min_length=people.SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD)]
Username = Annotated[str, Field(pattern=people.USERNAME)]


class UserBody(BaseModel):
    """A user; names that older clients send beside these are not kept."""

    username: Username
    email: Email
    password: NewPassword = Field(repr=False)


class LoginBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    username_or_email: Name = Field(alias="usernameOrEmail")
    password: Password = Field(repr=False)


def shown_user(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "createdAt": iso(row["createdAt"])}


@router.post("/login", responses=refused(HTTPStatus.UNAUTHORIZED))
def log_in(body: LoginBody, request: Request, server: TheServer) -> dict[str, Any]:
    """A token for `Authorization: Bearer`, until it expires or the password changes."""
    actor = sign_in(request, server, body.username_or_email, body.password)
    with writing(server) as connection:
        row = people.find_user(connection, actor.id)
        access.record(connection, server.site, actor, "auth.login", actor.id)
        user = people.shown(connection, row)
    token = logins.make_token(server.site, server.gate, actor.id)
    return {
        "success": True,
        "token": token,
        "expiresIn": int(server.gate.session.total_seconds()),
        "user": shown_user(user),
    }


@router.post("/register", status_code=201, responses=refused(HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT))
def register(body: UserBody, server: TheServer) -> dict[str, Any]:
    """A new account without any role; 403 unless AUTH_ALLOW_REGISTRATION."""
    if not server.gate.registration:
        raise Forbidden
    password_hash = hash_password(body.password)
    with writing(server) as connection:
        id = people.add_user(
            connection, server.site, username=body.username, email=body.email, password_hash=password_hash
        )
        actor = access.Actor(id=id, is_admin=False)
        access.record(connection, server.site, actor, "user.register", id)
        user = people.shown(connection, people.find_user(connection, id))
    token = logins.make_token(server.site, server.gate, id)
    return {"success": True, "token": token, "user": shown_user(user)}


@router.get("/profile")
def read_profile(server: TheServer, actor: TheActor) -> dict[str, Any]:
    """Who asks, and what they may."""
    with reading(server) as connection:
        try:
            user = shown_user(people.shown(connection, people.find_user(connection, actor.id)))
        except NotFound:
            user = {"id": actor.id, "roles": [{"role": "admin"}] if actor.is_admin else []}
    return {"success": True, "user": user}
