"""Issuers: POST and GET /issuers, and their achievements."""

import uuid
from typing import Any

from fastapi import APIRouter, Request, Response

from obms.badges import access, profiles
from obms.domain import Achievement, Issuer
from obms.specs import Json, issuer_did, issuer_url, ob3
from obms.web.context import TheActor, ThePage, TheServer, announce, read_id, reading, writing
from obms.web.models import IssuerBody

router = APIRouter(tags=["issuers"])


def shown(issuer: Issuer, site_url: str) -> Json:
    return {"@context": list(ob3.CONTEXT), **ob3.profile(issuer, site_url)}


def shown_achievement(achievement: Achievement, site_url: str) -> Json:
    issuer = issuer_did(site_url, achievement.issuer_id)
    return {"@context": list(ob3.CONTEXT), **ob3.achievement_object(achievement, site_url), "creator": issuer}


@router.post("/issuers", status_code=201)
def create_issuer(body: IssuerBody, server: TheServer, actor: TheActor, response: Response) -> dict[str, Any]:
    actor.require_admin()
    issuer = body.to_domain(str(uuid.uuid4()), server.site.clock())
    with writing(server) as connection:
        issuer = profiles.add_issuer(connection, server.site, issuer)
        access.record(connection, server.site, actor, "issuer.create", issuer.id)
    response.headers["Location"] = issuer_url(server.site.base_url, issuer.id)
    return shown(issuer, server.site.base_url)


@router.get("/issuers")
def list_issuers(
    request: Request, response: Response, server: TheServer, page: ThePage
) -> list[dict[str, Any]]:
    with reading(server) as connection:
        found, total = profiles.list_issuers(connection, page)
    announce(request, response, page, total)
    return [shown(issuer, server.site.base_url) for issuer in found]


@router.get("/issuers/{issuer_id}")
def read_issuer(issuer_id: str, server: TheServer) -> dict[str, Any]:
    with reading(server) as connection:
        issuer = profiles.find_issuer(connection, read_id("issuer", issuer_id))
    return shown(issuer, server.site.base_url)


@router.get("/issuers/{issuer_id}/achievements")
def list_achievements_of_issuer(
    issuer_id: str, request: Request, response: Response, server: TheServer, page: ThePage
) -> list[dict[str, Any]]:
    with reading(server) as connection:
        issuer = profiles.find_issuer(connection, read_id("issuer", issuer_id))
        found, total = profiles.list_achievements(connection, page, issuer_id=issuer.id)
    announce(request, response, page, total)
    return [shown_achievement(achievement, server.site.base_url) for achievement in found]
