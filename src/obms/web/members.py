"""Who may do what at an issuer: /issuers/:id/members, for its owners."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from obms.badges import access, closing, people, profiles
from obms.web.context import TheActor, TheServer, read_id, reading, writing

router = APIRouter(tags=["people"])
OWNER = "owner"


class RoleBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["owner", "editor", "staff"]


@router.get("/issuers/{issuer_id}/members")
def list_members(issuer_id: str, server: TheServer, actor: TheActor) -> list[dict[str, Any]]:
    id = read_id("issuer", issuer_id)
    actor.require(id, OWNER)
    with reading(server) as connection:
        rows = people.members_of(connection, profiles.find_issuer(connection, id).id)
    return [{"id": row["id"], "username": row["username"], "role": row["role"]} for row in rows]


@router.put("/issuers/{issuer_id}/members/{user_id}")
def give_role(
    issuer_id: str, user_id: str, body: RoleBody, server: TheServer, actor: TheActor
) -> dict[str, Any]:
    """Give a user (by id or name) this one role at the issuer, in place of the one there was."""
    id = read_id("issuer", issuer_id)
    actor.require(id, OWNER)
    with writing(server) as connection:
        user = people.find_user(connection, user_id)
        entries = closing.take_role(connection, server.site, actor.id, user["id"], id)
        people.give_role(connection, user["id"], body.role, id)
        detail: dict[str, object] = {"role": body.role, "issuer": id}
        access.record(connection, server.site, actor, "role.give", user["id"], detail)
    server.keep(entries)
    return {"id": user["id"], "username": user["username"], "role": body.role}


@router.delete("/issuers/{issuer_id}/members/{user_id}", status_code=204)
def take_role(issuer_id: str, user_id: str, server: TheServer, actor: TheActor) -> None:
    id = read_id("issuer", issuer_id)
    actor.require(id, OWNER)
    with writing(server) as connection:
        user = people.find_user(connection, user_id)
        entries = closing.take_role(connection, server.site, actor.id, user["id"], id)
    server.keep(entries)
