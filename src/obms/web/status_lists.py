"""Status lists: each a signed credential whose id is its own address."""

import json
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from obms.badges import access, statuses, tokens
from obms.badges.keys import ED25519, RSA
from obms.domain import Purpose
from obms.errors import Invalid
from obms.specs import Json, iso, issuer_did, status_list_url
from obms.web.answers import JSON, NO_KEY, of_types
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
from obms.web.tokens import JWT_TYPE, token_key, wants_token

router = APIRouter(tags=["status lists"])
SIZE_LIMIT, TTL_LIMIT = 16 * 1024 * 1024, 7 * 24 * 3600 * 1000
Format = Annotated[Literal["json", "jwt"] | None, Query(description="`jwt` gives the compact token.")]


class ListBody(BaseModel):
    """A new list. Lists are opened when they are needed; this is for one of another size or ttl."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    purpose: Purpose
    issuer: str | None = None
    status_size: Literal[1] = Field(1, alias="statusSize")
    total_entries: int = Field(statuses.LIST_SIZE, alias="totalEntries", ge=statuses.LIST_SIZE, le=SIZE_LIMIT)
    ttl: int = Field(statuses.TTL, ge=0, le=TTL_LIMIT, description="In milliseconds.")

    @field_validator("total_entries")
    @classmethod
    def _whole_bytes(cls, size: int) -> int:
        if size % 8:
            raise ValueError("must be a multiple of 8")
        return size


@router.get("/status-lists")
def list_status_lists(
    request: Request, response: Response, server: TheServer, page: ThePage
) -> list[dict[str, Any]]:
    with reading(server) as connection:
        rows, total = statuses.list_page(connection, page.limit, page.offset)
    announce(request, response, page, total)
    return [_shown(row, server.site.base_url) for row in rows]


def _shown(row: sa.RowMapping, site_url: str) -> Json:
    return {
        "id": status_list_url(site_url, row["id"]),
        "issuer": issuer_did(site_url, row["issuer_id"]),
        "purpose": row["purpose"],
        "totalEntries": row["size"],
        "statusSize": 1,
        "ttl": row["ttl"] or statuses.TTL,
        "changed": iso(row["changed_at"]),
    }


@router.post("/status-lists", status_code=201)
def create_status_list(
    body: ListBody, server: TheServer, actor: TheActor, response: Response
) -> dict[str, Any]:
    issuer_id = _issuer_of(body, server, actor)
    actor.require(issuer_id, "owner", "editor")
    with writing(server) as connection:
        row = statuses.add_list(
            connection, server.site, issuer_id, body.purpose, size=body.total_entries, ttl=body.ttl
        )
        access.record(connection, server.site, actor, "status-list.create", row["id"])
    response.headers["Location"] = status_list_url(server.site.base_url, row["id"])
    return _shown(row, server.site.base_url)


def _issuer_of(body: ListBody, server: TheServer, actor: access.Actor) -> str:
    """The issuer that is named, else the only one that the actor has a role at."""
    if body.issuer is not None:
        return read_reference(server, "issuer", body.issuer)
    mine = actor.issuer_ids() or frozenset()
    if len(mine) != 1:
        raise Invalid(issuer=["must be named"])
    return next(iter(mine))


@router.get("/status-lists/{list_id}", responses=of_types(200, JSON, JWT_TYPE) | NO_KEY)
def read_status_list(
    list_id: str,
    request: Request,
    server: TheServer,
    format: Format = None,  # noqa: A002
) -> Response:
    """The list as it was signed; after a change it is signed anew by whoever asks first."""
    found = read_id("status list", list_id)
    with reading(server) as connection:
        row = statuses.find_list(connection, found)
        document = statuses.fresh_document(row, server.site.clock())
    if document is None:
        with writing(server) as connection:
            document = statuses.sign_list(connection, server.site, found)
    headers = {"Cache-Control": f"max-age={(row['ttl'] or statuses.TTL) // 1000}", "Vary": "Accept"}
    if wants_token(request, format):
        token = tokens.document_token(
            server.site, token_key(server, row["issuer_id"], RSA, ED25519), json.loads(document)
        )
        return Response(token, media_type=JWT_TYPE, headers=headers)
    return Response(document, media_type="application/json", headers=headers)


@router.get("/status-lists/{list_id}/stats")
def read_statistics(list_id: str, server: TheServer, actor: TheActor) -> dict[str, Any]:
    """How full a list is; it tells how many badges an issuer has issued, and is for those who have a role."""
    with reading(server) as connection:
        row = statuses.find_list(connection, read_id("status list", list_id))
        actor.require(row["issuer_id"], "owner", "editor", "staff")
        marked = statuses.count_set(connection, row["id"])
    used = row["next_index"]
    return {
        "statusListId": status_list_url(server.site.base_url, row["id"]),
        "totalEntries": row["size"],
        "usedEntries": used,
        "availableEntries": row["size"] - used,
        "utilizationPercent": round(100 * used / row["size"], 3),
        "statusBreakdown": {"0": used - marked, "1": marked},
    }
