"""What a route is given: the server, a connection to read or to write by, the actor, the page."""

import re
import uuid
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated

import sqlalchemy as sa
from fastapi import Depends, Query, Request, Response, Security
from fastapi.security import APIKeyHeader

from obms import databases
from obms.app import Server
from obms.badges import access
from obms.errors import Invalid, NotFound

OFFSET_LIMIT = 2**31 - 1
REFERENCE = re.compile(
    r"(?:urn:uuid:|did:web:[^\s/]+:)?([0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})"
)
api_key = APIKeyHeader(name="X-API-Key", auto_error=False)


def server_of(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


TheServer = Annotated[Server, Depends(server_of)]


def reading(server: Server) -> AbstractContextManager[sa.Connection]:
    """A connection that sees one moment and changes nothing."""
    return server.database.engine.connect()


def writing(server: Server) -> AbstractContextManager[sa.Connection]:
    """One transaction, committed before the answer goes out; SQLite takes its lock at the start of it."""
    return databases.writing(server.database.engine)


def actor_of(server: TheServer, key: Annotated[str | None, Security(api_key)]) -> access.Actor:
    """Who asks, by the key in X-API-Key; without a valid one the answer is 401."""
    with reading(server) as connection:
        return access.authenticate(connection, server.site, key, server.admin_key)


TheActor = Annotated[access.Actor, Depends(actor_of)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The part of a list that was asked for."""

    limit: int
    offset: int


def page_of(
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
    offset: Annotated[int, Query(ge=0, le=OFFSET_LIMIT, description="How many to leave out first.")] = 0,
) -> Page:
    return Page(limit=limit, offset=offset)


ThePage = Annotated[Page, Depends(page_of)]


def announce(request: Request, response: Response, page: Page, total: int) -> None:
    """Tell of the other pages, in X-Total-Count and Link."""
    response.headers["X-Total-Count"] = str(total)
    last = max(total - 1, 0) // page.limit * page.limit
    offsets = {
        "first": 0,
        "prev": max(page.offset - page.limit, 0),
        "next": page.offset + page.limit,
        "last": last,
    }
    if page.offset == 0:
        del offsets["prev"]
    if page.offset + page.limit >= total:
        del offsets["next"]
    path = request.url.path
    response.headers["Link"] = ", ".join(
        f'<{path}?limit={page.limit}&offset={offset}>; rel="{name}"' for name, offset in offsets.items()
    )


def read_id(what: str, text: str) -> str:
    """The bare id of one in a path, as UUID, `urn:uuid:` or did:web; what is none of these is NotFound."""
    found = REFERENCE.fullmatch(text)
    if found is None:
        raise NotFound(what=what, id=text)
    return str(uuid.UUID(found[1]))


def read_reference(server: Server, field: str, text: str) -> str:
    """The bare id of one that a body names, also by its URL on this server; Invalid if it is none of ours."""
    local = re.sub(rf"{re.escape(server.site.base_url)}/(?:v[23]/)?[a-z-]+/", "", text, count=1)
    found = REFERENCE.fullmatch(local)
    if found is None:
        raise Invalid(**{field: ["must be an id or a URL of this server"]})
    return str(uuid.UUID(found[1]))
