"""Achievements: made, changed, deleted and read; what is related to them, and what others say for them."""

import uuid
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response

from obms.badges import access, credentials, deleting, endorsing, profiles, relations
from obms.domain import Achievement
from obms.errors import Invalid, NotFound
from obms.server import Server
from obms.web import orders
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
from obms.web.models import AchievementBody, EndorsementBody, RelatedBody
from obms.web.parts import Token

router = APIRouter(tags=["achievements"])
MAKERS = ("owner", "editor")


@router.post("/achievements", status_code=201)
def create_achievement(
    body: AchievementBody, server: TheServer, actor: TheActor, form: TheForm, response: Response
) -> dict[str, Any]:
    with writing(server) as connection:
        achievement = orders.achievement_of(server, connection, body, str(uuid.uuid4()))
        actor.require(achievement.issuer_id, *MAKERS)
        achievement = profiles.add_achievement(connection, server.site, achievement)
        access.record(connection, server.site, actor, "achievement.create", achievement.id)
    response.headers["Location"] = form.achievement_url(achievement.id)
    return form.achievement(achievement)


@router.get("/achievements")
def list_achievements(
    request: Request, response: Response, server: TheServer, form: TheForm, page: ThePage
) -> list[dict[str, Any]]:
    with reading(server) as connection:
        found, total = profiles.list_achievements(connection, page)
    announce(request, response, page, total)
    return [form.achievement(achievement) for achievement in found]


@router.get("/achievements/{achievement_id}")
def read_achievement(achievement_id: str, server: TheServer, form: TheForm) -> dict[str, Any]:
    return form.achievement(_find(server, achievement_id))


@router.put("/achievements/{achievement_id}")
def change_achievement(
    achievement_id: str, body: AchievementBody, server: TheServer, actor: TheActor, form: TheForm
) -> dict[str, Any]:
    """The whole achievement anew; badges that were issued stay as they were signed.

    Related achievements, descriptions of results and endorsements that are not told stay.
    """
    id = read_id("achievement", achievement_id)
    require_same(server, body.id, id)
    with writing(server) as connection:
        held = _find_mine(connection, actor, id)
        achievement = orders.achievement_of(server, connection, body, id, held)
        achievement = profiles.change_achievement(connection, server.site, achievement)
        access.record(connection, server.site, actor, "achievement.change", id)
    return form.achievement(achievement)


@router.delete("/achievements/{achievement_id}", status_code=204)
def delete_achievement(
    achievement_id: str,
    server: TheServer,
    actor: TheActor,
    cascade: Cascade = False,  # noqa: FBT002
) -> None:
    id = read_id("achievement", achievement_id)
    with writing(server) as connection:
        _find_mine(connection, actor, id)
        standings = deleting.delete_achievement(connection, server.site, id, cascade=cascade)
        detail: dict[str, object] = {"credentials": len(standings)}
        access.record(connection, server.site, actor, "achievement.delete", id, detail)
    server.keep(standings)


@router.get("/achievements/{achievement_id}/credentials")
def list_credentials_of_achievement(  # noqa: PLR0913, PLR0917 - each is given by name
    achievement_id: str,
    request: Request,
    response: Response,
    server: TheServer,
    actor: TheActor,
    form: TheForm,
    page: ThePage,
) -> list[dict[str, Any]]:
    with reading(server) as connection:
        achievement = profiles.find_achievement(connection, read_id("achievement", achievement_id))
        actor.require(achievement.issuer_id, *MAKERS, "staff")
        found, total = credentials.list_page(connection, page, achievement_id=achievement.id)
        shown = form.credentials(connection, found)
    announce(request, response, page, total)
    return shown


@router.get("/achievements/{achievement_id}/related")
def list_related(achievement_id: str, server: TheServer, form: TheForm) -> list[dict[str, Any]]:
    """What an achievement is related to, with the name and more of those that are ours."""
    with reading(server) as connection:
        achievement = profiles.find_achievement(connection, read_id("achievement", achievement_id))
        return form.related(connection, achievement.related)


@router.post("/achievements/{achievement_id}/related")
def add_related(
    achievement_id: str, body: RelatedBody, server: TheServer, actor: TheActor, form: TheForm
) -> dict[str, Any]:
    """Relate it to another; the answer is the achievement."""
    related = orders.related_of(server, body)
    with writing(server) as connection:
        found = _find_mine(connection, actor, read_id("achievement", achievement_id))
        relations.add_related(connection, server.site, found.id, related)
        access.record(connection, server.site, actor, "achievement.relate", found.id, {"to": related.id})
        return form.achievement(profiles.find_achievement(connection, found.id))


@router.delete("/achievements/{achievement_id}/related/{related_id:path}")
def remove_related(
    achievement_id: str, related_id: str, server: TheServer, actor: TheActor, form: TheForm
) -> dict[str, Any]:
    """End the relation to another, told by any form of its id; the answer is the achievement."""
    try:
        other = orders.read_other(server, "related", related_id)
    except Invalid as error:
        raise NotFound(what="related achievement", id=related_id) from error
    with writing(server) as connection:
        found = _find_mine(connection, actor, read_id("achievement", achievement_id))
        relations.remove_related(connection, found.id, other)
        access.record(connection, server.site, actor, "achievement.unrelate", found.id, {"from": other})
        return form.achievement(profiles.find_achievement(connection, found.id))


@router.get("/achievements/{achievement_id}/endorsements")
def list_endorsements(achievement_id: str, server: TheServer) -> list[Any]:
    """All that is said for an achievement, each as it was sent: JSON, or a compact token."""
    found = _find(server, achievement_id).endorsements
    documents = [endorsement.document for endorsement in found]
    return [
        document if endorsing.is_token(document) else endorsing.payload(document) for document in documents
    ]


@router.post("/achievements/{achievement_id}/endorsements")
def add_endorsement(
    achievement_id: str,
    body: EndorsementBody | Token,
    server: TheServer,
    actor: TheActor,
    form: TheForm,
) -> dict[str, Any]:
    """Keep what somebody says for it; the answer is the achievement.

    A proof that is there must be right where its key is at hand: a `did:key`, or an issuer here. Then it goes
    into the badges too that are issued from now on. What cannot be checked is only listed.
    """
    document = body if isinstance(body, str) else orders.write(body)
    with writing(server) as connection:
        found = _find_mine(connection, actor, read_id("achievement", achievement_id))
        if not orders.is_about(server, document, found.id):
            raise Invalid(**{"credentialSubject.id": ["must be the id of this achievement"]})
        endorsement = endorsing.make(connection, document, about=True)
        relations.add_endorsement(connection, server.site, found.id, endorsement)
        access.record(connection, server.site, actor, "achievement.endorse", found.id)
        return form.achievement(profiles.find_achievement(connection, found.id))


def _find(server: Server, achievement_id: str) -> Achievement:
    with reading(server) as connection:
        return profiles.find_achievement(connection, read_id("achievement", achievement_id))


def _find_mine(connection: sa.Connection, actor: access.Actor, id: str) -> Achievement:
    """The achievement, which the actor may change; NotFound, Forbidden."""
    found = profiles.find_achievement(connection, id)
    actor.require(found.issuer_id, *MAKERS)
    return found
