"""What a route is given: the server, a connection to read or to write by, the actor, the page."""

import re
import uuid
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated
from urllib.parse import urlencode

import sqlalchemy as sa
from fastapi import Depends, Query, Request, Response, Security
from fastapi.security import (
    APIKeyHeader,
    HTTPAuthorizationCredentials,
    HTTPBasic,
    HTTPBasicCredentials,
    HTTPBearer,
)

from obms.badges import access, logins, people
from obms.errors import AuthenticationRequired, Invalid, LoginRefused, NotFound
from obms.observe import logger
from obms.server import Server
from obms.web.limits import Logins, client_of

OFFSET_LIMIT = 2**31 - 1
REFERENCE = re.compile(
    r"(?:urn:uuid:|did:web:[^\s/]+:)?([0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})"
)
api_key = APIKeyHeader(name="X-API-Key", auto_error=False)
basic = HTTPBasic(auto_error=False)
bearer = HTTPBearer(auto_error=False)


def server_of(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


TheServer = Annotated[Server, Depends(server_of)]


def reading(server: Server) -> AbstractContextManager[sa.Connection]:
    """A connection that sees one moment and changes nothing."""
    return server.database.engine.connect()


def writing(server: Server) -> AbstractContextManager[sa.Connection]:
    """One transaction, committed before the answer goes out; SQLite takes its lock at the start of it."""
    return server.write()


def actor_of(
    request: Request,
    server: TheServer,
    key: Annotated[str | None, Security(api_key)],
    session: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
    login: Annotated[HTTPBasicCredentials | None, Security(basic)],
) -> access.Actor:
    """Who asks: by X-API-Key, a login's token or HTTP Basic; without a valid one the answer is 401."""
    if login is not None and not key:
        with reading(server) as connection:
            known = logins.by_environment(connection, server.gate, login.username, login.password)
        return known or sign_in(request, server, login.username, login.password)
    # Before the database is opened: who looks for what is wrong with it must not need it.
    admin = logins.by_admin_key(key, server.admin_key) if key else None
    if admin is not None:
        return admin
    with reading(server) as connection:
        if key:
            return logins.by_key(connection, server.site, server.gate, key, server.admin_key)
        if session is not None:
            return logins.by_token(connection, server.site, session.credentials)
    raise AuthenticationRequired


def sign_in(request: Request, server: Server, name: str, password: str) -> access.Actor:
    """The user with this password. LoginRefused, or TooManyRequests after too many that were not right."""
    client, guessed = client_of(request), name.lower()
    failures: Logins = request.app.state.logins
    failures.require_open(client, guessed)
    with reading(server) as connection:
        row = people.named(connection, name)
    try:
        user_id = logins.by_password(row, password)
    except LoginRefused:
        failures.failed(client, guessed)
        # Not the name: people type their password into its field.
        logger().warning("login refused", client=client)
        raise
    with reading(server) as connection:
        return access.actor_of(connection, user_id)


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


Cascade = Annotated[bool, Query(description="Delete what depends on it too.")]


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
    path, asked = request.url.path, dict(request.query_params)
    response.headers["Link"] = ", ".join(
        f'<{path}?{urlencode(asked | {"limit": page.limit, "offset": offset})}>; rel="{name}"'
        for name, offset in offsets.items()
    )


def read_id(what: str, text: str) -> str:
    """The bare id of one in a path, as UUID, `urn:uuid:` or did:web; what is none of these is NotFound."""
    found = REFERENCE.fullmatch(text)
    if found is None:
        raise NotFound(what=what, id=text)
    return str(uuid.UUID(found[1]))


@lru_cache(maxsize=16)
def _address(site_url: str) -> re.Pattern[str]:
    """How the address of what this server has begins."""
    return re.compile(rf"{re.escape(site_url)}/(?:v[23]/)?[a-z-]+/")


def read_reference(server: Server, field: str, text: str) -> str:
    """The bare id of one that a body names, also by its URL on this server; Invalid if it is none of ours."""
    local = _address(server.site.base_url).sub("", text, count=1)
    found = REFERENCE.fullmatch(local)
    if found is None:
        raise Invalid(**{field: ["must be an id or a URL of this server"]})
    return str(uuid.UUID(found[1]))


def require_same(server: Server, told: object, id: str) -> None:
    """Invalid where the body of a change tells another id than its path."""
    if told is not None and read_reference(server, "id", str(told)) != id:
        raise Invalid(id=["must be the id in the path"])
