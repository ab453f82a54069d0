"""Credentials that are ordered at the same time, issued together, in front of the route that issues them.

Who comes while others are issued waits for the next turn. Each is asked of the database who it is, is
judged on its own, and is answered after the commit that all of a turn share. What is ordered in an unusual
way, and what is refused, goes to the application, which judges it alone: it has all the refusals.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from obms.badges import access, batching, logins
from obms.badges.issuing import Order
from obms.errors import AuthenticationRequired, Invalid, ObmsError
from obms.server import Server
from obms.specs import credential_url
from obms.web import problems
from obms.web.models import CredentialBody
from obms.web.orders import order_of
from obms.web.standing import ROLES
from obms.web.tokens import JWT_TYPE

PATHS = ("/credentials", "/v3/credentials")
SIZE_LIMIT = 64 * 1024  # what is read in the event loop takes less than a millisecond or so
LONGEST_LENGTH = len(str(SIZE_LIMIT))
MEMBERS = 32  # of one turn, so that nobody waits for long
# What is committed after it is on the disk no sooner than this.
NOT_AWAITED = "SET LOCAL synchronous_commit TO off"
# Who was just answered often asks again.
MOMENT = 0.002
# A hundred times what most take. The application goes on with the late ones, one by one.
SIGN_SECONDS = 0.1
LATE = ObmsError()
Told = batching.Signed | sa.exc.SQLAlchemyError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An order, and the API key of who gives it."""

    key: str
    order: Order


class Issuance:
    """The ASGI middleware that does it."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self.app = app
        self.server = server
        self._waiting: deque[tuple[Asked, asyncio.Future[Told]]] = deque()
        self._turn: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (key := _key(scope)) is None:
            await self.app(scope, receive, send)
            return
        heard = Heard(receive)
        order = _read(self.server, await heard.body())
        told = await self._issued(Asked(key=key, order=order)) if order else None
        if isinstance(told, batching.Signed):
            await _answer(told, self.server.site.base_url, send)
        elif told is None:
            await self.app(scope, heard.again, send)
        else:
            await problems.of_database(Request(scope), told)(scope, receive, send)

    async def _issued(self, asked: Asked) -> Told:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Told] = loop.create_future()
        self._waiting.append((asked, told))
        self._begin()
        return await told

    def _begin(self) -> None:
        """Begin a turn for those who wait, unless one is under way."""
        if self._waiting and self._turn is None:
            turn = [self._waiting.popleft() for _ in range(min(MEMBERS, len(self._waiting)))]
            self._turn = asyncio.get_running_loop().create_task(self._issue(turn))

    async def _issue(self, turn: "Sequence[tuple[Asked, asyncio.Future[Told]]]") -> None:
        try:
            await self._answered(turn)
            if len(turn) > len(self._waiting):
                await asyncio.sleep(MOMENT)
        finally:
            self._turn = None
            self._begin()

    async def _answered(self, turn: "Sequence[tuple[Asked, asyncio.Future[Told]]]") -> None:
        outcomes: Sequence[Told] = [None] * len(turn)
        try:
            outcomes = await asyncio.to_thread(issue_together, self.server, [asked for asked, _ in turn])
        finally:
            # Whatever happened, nobody waits for ever.
            for (_, told), outcome in zip(turn, outcomes, strict=True):
                if not told.done():
                    told.set_result(outcome)


def issue_together(server: Server, asked: Sequence[Asked]) -> Sequence[Told]:
    """What was issued and is committed; None for what the application is to judge alone.

    An error of the database where nobody knows whether it is committed: it must not be tried again.
    On PostgreSQL the places are committed before anything is signed, so that workers do not wait for
    each other's signatures. On SQLite, with one writer at a time, another commit would only take time.
    """
    written: list[batching.Signed | None] = []
    try:
        if server.database.kind == "sqlite":
            with server.write() as connection:
                actors, prepared = _prepare(connection, server, asked)
                written += _keep(connection, server, asked, actors, _sign(server, prepared))
        else:
            with server.database.engine.connect() as connection:
                with connection.begin():
                    actors, prepared = _prepare(connection, server, asked)
                    connection.exec_driver_sql(NOT_AWAITED)
                signed = _sign(server, prepared)
                with connection.begin():
                    written += _keep(connection, server, asked, actors, signed)
    except sa.exc.SQLAlchemyError as error:
        return [error if written else None] * len(asked)
    return written


def _prepare(
    connection: sa.Connection, server: Server, asked: Sequence[Asked]
) -> tuple[dict[str, access.Actor | None], list[batching.Prepared | ObmsError]]:
    """Who asks, by key, and what each order needs, or why it is refused."""
    actors = {key: _actor(connection, server, key) for key in {one.key for one in asked}}
    wanted = [(one.order, partial(_allow, actors[one.key])) for one in asked]
    return actors, batching.prepare(connection, server.site, wanted)


def _sign(
    server: Server, prepared: Sequence[batching.Prepared | ObmsError]
) -> list[batching.Signed | ObmsError]:
    """As many as can be signed soon: on SQLite all other writers wait meanwhile."""
    end = time.monotonic() + SIGN_SECONDS
    return [batching.sign(server.site, each) if time.monotonic() < end else LATE for each in prepared]


def _keep(
    connection: sa.Connection,
    server: Server,
    asked: Sequence[Asked],
    actors: Mapping[str, access.Actor | None],
    signed: Sequence[batching.Signed | ObmsError],
) -> list[batching.Signed | None]:
    """Write the credentials, and who had each of them issued."""
    batching.keep_all(connection, signed)
    kept = [each if isinstance(each, batching.Signed) else None for each in signed]
    for key, actor in actors.items():
        ids = [each.row["id"] for each, one in zip(kept, asked, strict=True) if each and one.key == key]
        if actor is not None:
            access.record_all(connection, server.site, actor, "credential.issue", ids)
    return kept


def _actor(connection: sa.Connection, server: Server, key: str) -> access.Actor | None:
    """Who holds the key, as the database knows it now."""
    try:
        return logins.by_key(connection, server.site, server.gate, key, server.admin_key)
    except AuthenticationRequired:
        return None


def _allow(actor: access.Actor | None, issuer_id: str) -> None:
    if actor is None:
        raise AuthenticationRequired
    actor.require(issuer_id, *ROLES)


class Heard:
    """The body of a request, which is heard here first, and again by the application."""

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self._messages: deque[Message] = deque()
        self._refusal: HTTPException | None = None

    async def body(self) -> bytes | None:
        """The whole of it; None where it does not come to an end, or may not be read."""
        try:
            while not self._messages or self._messages[-1].get("more_body"):
                self._messages.append(await self.receive())
        except HTTPException as refusal:
            self._refusal = refusal
            return None
        return b"".join(message.get("body", b"") for message in self._messages)

    async def again(self) -> Message:
        if self._messages:
            return self._messages.popleft()
        if self._refusal:
            raise self._refusal
        return await self.receive()


def _key(scope: Scope) -> str | None:
    """The API key with which a credential is ordered in the usual way: a short body of JSON."""
    if scope["method"] != "POST" or scope["path"] not in PATHS or scope["query_string"]:
        return None
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or len(length) > LONGEST_LENGTH or int(length) > SIZE_LIMIT:
        return None
    if headers.get(b"content-type") != b"application/json" or JWT_TYPE.encode() in headers.get(
        b"accept", b""
    ):
        return None
    if b"authorization" in headers or len(headers) < len(scope["headers"]):
        return None
    return headers.get(b"x-api-key", b"").decode("latin-1") or None


def _read(server: Server, body: bytes | None) -> Order | None:
    """What is ordered; None where that is for the application to tell."""
    if not body:
        return None
    try:
        return order_of(server, CredentialBody.model_validate(json.loads(body)))
    except (ValueError, RecursionError, Invalid):
        return None


async def _answer(kept: batching.Signed, site_url: str, send: Send) -> None:
    body = kept.text.encode()
    headers = [
        (b"content-length", b"%d" % len(body)),
        (b"content-type", b"application/json"),
        (b"location", credential_url(site_url, kept.row["id"]).encode()),
    ]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": body})
