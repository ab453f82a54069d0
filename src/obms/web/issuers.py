"""Issuers: made, changed, deleted and read, and their achievements."""

import uuid
from typing import Any

from fastapi import APIRouter, Request, Response

from obms.badges import access, deleting, profiles
from obms.web.context import (
    Cascade,
    TheActor,
    ThePage,
    TheServer,
    announce,
    read_id,
    reading,
    require_same,
    writing,
)
from obms.web.forms import TheForm
from obms.web.models import IssuerBody

router = APIRouter(tags=["issuers"])


@router.post("/issuers", status_code=201)
def create_issuer(
    body: IssuerBody, server: TheServer, actor: TheActor, form: TheForm, response: Response
) -> dict[str, Any]:
    actor.require_admin()
    issuer = body.to_domain(str(uuid.uuid4()), server.site.clock())
    with writing(server) as connection:
        issuer = profiles.add_issuer(connection, server.site, issuer)
        access.record(connection, server.site, actor, "issuer.create", issuer.id)
        (shown,) = form.issuers(connection, [issuer])
    response.headers["Location"] = form.issuer_url(issuer.id)
    return shown


@router.get("/issuers")
def list_issuers(
    request: Request, response: Response, server: TheServer, form: TheForm, page: ThePage
) -> list[dict[str, Any]]:
    with reading(server) as connection:
        found, total = profiles.list_issuers(connection, page)
        shown = form.issuers(connection, found)
    announce(request, response, page, total)
    return shown


@router.get("/issuers/{issuer_id}")
def read_issuer(issuer_id: str, server: TheServer, form: TheForm) -> dict[str, Any]:
    with reading(server) as connection:
        issuer = profiles.find_issuer(connection, read_id("issuer", issuer_id))
        (shown,) = form.issuers(connection, [issuer])
    return shown


@router.put("/issuers/{issuer_id}")
def change_issuer(
    issuer_id: str, body: IssuerBody, server: TheServer, actor: TheActor, form: TheForm
) -> dict[str, Any]:
    """The whole issuer anew; badges that were issued stay as they were signed."""
    id = read_id("issuer", issuer_id)
    require_same(server, body.id, id)
    with writing(server) as connection:
        profiles.find_issuer(connection, id)
        actor.require(id, "owner")
        issuer = profiles.change_issuer(connection, server.site, body.to_domain(id, server.site.clock()))
        access.record(connection, server.site, actor, "issuer.change", id)
        (shown,) = form.issuers(connection, [issuer])
    return shown


@router.delete("/issuers/{issuer_id}", status_code=204)
def delete_issuer(issuer_id: str, server: TheServer, actor: TheActor, cascade: Cascade = False) -> None:  # noqa: FBT002
    """Its keys and status lists go on to answer, so that its badges are known not to count any more."""
    id = read_id("issuer", issuer_id)
    with writing(server) as connection:
        profiles.find_issuer(connection, id)
        actor.require(id, "owner")
        standings = deleting.delete_issuer(connection, server.site, id, cascade=cascade)
        access.record(connection, server.site, actor, "issuer.delete", id, {"credentials": len(standings)})
    server.keep(standings)


@router.get("/issuers/{issuer_id}/achievements")
def list_achievements_of_issuer(
    issuer_id: str, request: Request, response: Response, server: TheServer, form: TheForm, page: ThePage
) -> list[dict[str, Any]]:
    with reading(server) as connection:
        issuer = profiles.find_issuer(connection, read_id("issuer", issuer_id))
        found, total = profiles.list_achievements(connection, page, issuer_id=issuer.id)
    announce(request, response, page, total)
    return [form.achievement(achievement) for achievement in found]
