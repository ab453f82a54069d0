"""Credentials kept ready as bytes, in front of the route that gives them to a verifier.

What is kept is answered only while the database says that nothing was committed since it was read; it is
asked after each request has come in. So no worker answers with a credential that was revoked, changed
or deleted before, in whatever process. Whoever waits at the same time shares the question.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import cast

import jwt
from starlette.types import ASGIApp, Receive, Scope, Send

from obms.badges import signatures
from obms.databases.watching import Row, Unwatched
from obms.server import Server
from obms.web.gathering import Gathering

KEPT_BYTES = 16 * 1024 * 1024
PATH = re.compile(r"(?:/v3)?/credentials/([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})")
# A token, a page or a picture is made by the route itself.
OTHER_FORMS = (b"jwt", b"html", b"image")
# Those that are revoked or not there are the route's to tell of.
STATEMENT = """
SELECT id, proof, document FROM credentials WHERE id IN ({keys}) AND NOT EXISTS (
    SELECT 1 FROM status_entries
    WHERE status_entries.credential_id = credentials.id AND purpose = 'revocation' AND value
)
"""
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A credential as it is sent."""

    body: bytes
    etag: bytes
    headers: tuple[tuple[bytes, bytes], ...]


class Ready:
    """The ASGI middleware that does it; what it does not know goes to the application.

    It begins with the server's lifespan, whose event loop its session belongs to.
    """

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self.app = app
        self.watch = server.database.watch(STATEMENT)
        self.began = False
        self.shelf = Shelf(KEPT_BYTES)
        self.gathering = Gathering(self._current, together=self.watch.slow)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        if self.began and scope["type"] == "http" and (wanted := _wanted(scope)):
            kept = await self._find(wanted[0])
            if kept is not None:
                await _answer(kept, wanted[1], send)
                return
        await self.app(scope, receive, send)

    async def _find(self, id: str) -> Kept | None:
        if self.watch.slow:
            return await self.gathering.find(id)
        try:
            self.shelf.accept(await self.watch.look())
        except Unwatched:
            return None
        return self.shelf.get(id) or await self.gathering.find(id)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.began = True
        try:
            await self.app(scope, receive, send)
        finally:
            self.began = False
            self.watch.close()

    async def _current(self, ids: set[str]) -> dict[str, Kept]:
        self.shelf.accept(await self.watch.look())
        missing = [id for id in ids if self.shelf.get(id) is None]
        if missing:
            for row in await self.watch.rows(missing):
                if kept := _made_ready(row):
                    self.shelf.put(row[0], kept)
        return {id: kept for id in ids if (kept := self.shelf.get(id))}


class Shelf:
    """What was read since the database last changed, at most so many bytes of it; the oldest goes first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._version: Hashable = None
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def accept(self, version: Hashable) -> None:
        """Keep nothing of another version."""
        if version != self._version:
            self._kept.clear()
            self._version, self.bytes = version, 0

    def get(self, id: str) -> Kept | None:
        return self._kept.get(id)

    def put(self, id: str, kept: Kept) -> None:
        self._kept[id] = kept
        self.bytes += len(kept.body)
        while self.bytes > self.limit:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= len(oldest.body)


def _wanted(scope: Scope) -> tuple[str, bytes] | None:
    """The id and the If-None-Match of a request for a credential in its plain form."""
    if scope["method"] != "GET" or scope["query_string"]:
        return None
    path = PATH.fullmatch(scope["path"])
    if path is None:
        return None
    known = b""
    for name, value in cast("Headers", scope["headers"]):
        if name == b"if-none-match":
            known = value
        elif name == b"accept" and value != b"*/*" and any(form in value.lower() for form in OTHER_FORMS):
            return None
    return path[1], known


def _made_ready(row: Row) -> Kept | None:
    """None where what is kept is damaged: that is the route's to tell of."""
    _, proof, document = row
    try:
        text = signatures.write(signatures.read(document, proof)) if proof == "jwt" else document
    except jwt.PyJWTError:
        return None
    body = text.encode()
    etag = b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode()
    headers = (
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"etag", etag),
        # A copy may be kept, and is asked for each time: it may be revoked since.
        (b"cache-control", b"no-cache"),
        (b"vary", b"Accept"),
    )
    return Kept(body=body, etag=etag, headers=headers)


async def _answer(kept: Kept, known: bytes, send: Send) -> None:
    if known and (known == b"*" or kept.etag in known):
        headers = [header for header in kept.headers if header[0] != b"content-length"]
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.start", "status": 200, "headers": kept.headers})
    await send({"type": "http.response.body", "body": kept.body})
