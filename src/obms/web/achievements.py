"""Achievements: POST and GET /achievements, and the credentials of one."""

import uuid
from typing import Any

from fastapi import APIRouter, Request, Response

from obms.badges import access, credentials, profiles
from obms.specs import achievement_url
from obms.web.context import (
    TheActor,
    ThePage,
    TheServer,
    announce,
    read_id,
    read_reference,
    reading,
    writing,
)
from obms.web.credentials import shown as shown_credential
from obms.web.issuers import shown_achievement
from obms.web.models import AchievementBody

router = APIRouter(tags=["achievements"])


@router.post("/achievements", status_code=201)
def create_achievement(
    body: AchievementBody, server: TheServer, actor: TheActor, response: Response
) -> dict[str, Any]:
    issuer_id = read_reference(server, "issuer", body.issuer)
    actor.require(issuer_id, "owner", "editor")
    achievement = body.to_domain(str(uuid.uuid4()), issuer_id, server.site.clock())
    with writing(server) as connection:
        achievement = profiles.add_achievement(connection, server.site, achievement)
        access.record(connection, server.site, actor, "achievement.create", achievement.id)
    response.headers["Location"] = achievement_url(server.site.base_url, achievement.id)
    return shown_achievement(achievement, server.site.base_url)


@router.get("/achievements")
def list_achievements(
    request: Request, response: Response, server: TheServer, page: ThePage
) -> list[dict[str, Any]]:
    with reading(server) as connection:
        found, total = profiles.list_achievements(connection, page)
    announce(request, response, page, total)
    return [shown_achievement(achievement, server.site.base_url) for achievement in found]


@router.get("/achievements/{achievement_id}")
def read_achievement(achievement_id: str, server: TheServer) -> dict[str, Any]:
    with reading(server) as connection:
        achievement = profiles.find_achievement(connection, read_id("achievement", achievement_id))
    return shown_achievement(achievement, server.site.base_url)


@router.get("/achievements/{achievement_id}/credentials")
def list_credentials_of_achievement(
    achievement_id: str,
    request: Request,
    response: Response,
    server: TheServer,
    actor: TheActor,
    page: ThePage,
) -> list[dict[str, Any]]:
    with reading(server) as connection:
        achievement = profiles.find_achievement(connection, read_id("achievement", achievement_id))
        actor.require(achievement.issuer_id, "owner", "editor", "staff")
        found, total = credentials.list_page(connection, page, achievement_id=achievement.id)
    announce(request, response, page, total)
    return [shown_credential(kept) for kept in found]
