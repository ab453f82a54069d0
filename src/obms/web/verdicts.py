"""Verdicts on credentials in good standing, given in front of the route that gives all of them.

The row, its key and its places are read by one statement, for all who ask at the same time; the proof is
checked in the event loop where that takes less than a millisecond or so. What was revoked or suspended,
what is not there, and what only the JSON-LD library can judge, goes to the application.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.types import ASGIApp, Receive, Scope, Send

from obms.badges import signatures, verifying
from obms.databases.watching import Row
from obms.domain import ProofKind, Status
from obms.server import Server
from obms.web.credentials import shown_verdict
from obms.web.gathering import Gathering

PATH = re.compile(r"(?:/v3)?/credentials/([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})/verify")
STATEMENT = """
SELECT credentials.id, credentials.issuer_id, achievement_id, key_id, proof, document, issued_at, expires_at,
    signing_keys.issuer_id, public_pem
FROM credentials JOIN signing_keys ON signing_keys.id = key_id
WHERE credentials.id IN ({keys})
AND EXISTS (SELECT 1 FROM status_entries WHERE credential_id = credentials.id)
AND NOT EXISTS (SELECT 1 FROM status_entries WHERE credential_id = credentials.id AND value)
"""
GOOD = Status(revoked=False, suspended=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A credential in good standing."""

    id: str
    issuer_id: str
    achievement_id: str
    key_id: str
    proof: ProofKind
    document: str
    issued_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What it is to be checked by."""

    issuer_id: str
    public_pem: str


class Verdicts:
    """The ASGI middleware that does it; it begins with the lifespan of the server."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self.app = app
        self.clock = server.site.clock
        self.watch = server.database.watch(STATEMENT)
        self.began = False
        self.gathering = Gathering(self._rows, together=self.watch.slow)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        if self.began and scope["type"] == "http" and (body := await self._verdict(scope)):
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await self.app(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.began = True
        try:
            await self.app(scope, receive, send)
        finally:
            self.began = False
            self.watch.close()

    async def _verdict(self, scope: Scope) -> bytes | None:
        if scope["method"] != "GET" or scope["query_string"] or not (path := PATH.fullmatch(scope["path"])):
            return None
        row = await self.gathering.find(path[1])
        if row is None:
            return None
        found, key = _read(row)
        try:
            verdict = verifying.pronounce(found, key, GOOD, self.clock(), signatures.check_quickly)
        except signatures.SlowToCheck:
            return None
        return json.dumps(shown_verdict(verdict), ensure_ascii=False, separators=(",", ":")).encode()

    async def _rows(self, ids: set[str]) -> Mapping[str, Row]:
        return {row[0]: row for row in await self.watch.rows(sorted(ids))}


def _read(row: Row) -> tuple[Found, Key]:
    found = Found(
        id=row[0],
        issuer_id=row[1],
        achievement_id=row[2],
        key_id=row[3],
        proof=row[4],
        document=row[5],
        issued_at=_time(row[6]),
        expires_at=_time(row[7]) if row[7] else None,
    )
    return found, Key(issuer_id=row[8], public_pem=row[9])


def _time(text: str) -> datetime:
    """SQLite writes no zone, and PostgreSQL one that it was asked for."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
