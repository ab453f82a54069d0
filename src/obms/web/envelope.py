"""Around each request: its id, bounds on its body, other origins, and the headers every answer has."""

import random
import re
from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from obms.observe import ANSWERED
from obms.web.problems import METHODS

BODY_LIMIT = 1024 * 1024
# Where pictures come in: 5 MB of them, in base64 or as a form.
UPLOAD_LIMIT = 8 * 1024 * 1024
UPLOADS = ("/assets", "/verify")
LONGEST_LENGTH = 18  # digits of a number of bytes
DEPTH_LIMIT = 64
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# A string that does not end is read to the end of the body once, so that no body is read twice.
TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{\]}]', re.DOTALL)
# One of them announces a body.
OF_BODIES = (b"content-length", b"transfer-encoding")
OPAQUE = ("multipart/", "image/", "application/octet-stream")
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
POLICY = b"content-security-policy"
DOCS_POLICY = (
    b"default-src 'none'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    b"img-src 'self' data: https://fastapi.tiangolo.com; "
    b"script-src 'unsafe-inline' https://cdn.jsdelivr.net; style-src 'unsafe-inline' https://cdn.jsdelivr.net"
)
DOCS = ("/docs", "/redoc")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (POLICY, PAGE_POLICY.encode()),
)
HTTPS = (b"strict-transport-security", b"max-age=31536000")
PRIVATE = (b"cache-control", b"no-store")
EXPOSED = (
    "Link",
    "Location",
    "Retry-After",
    "X-Request-ID",
    "X-Total-Count",
    "Deprecation",
    "Sunset",
    "ETag",
)
ASKED = ("Accept", "Authorization", "Content-Type", "If-None-Match", "X-API-Key", "X-Request-ID")


class Envelope:
    """The ASGI middleware that does it."""

    def __init__(self, app: ASGIApp, *, origins: tuple[str, ...] = (), https: bool = False) -> None:
        self.app = app
        self._fixed = (*HEADERS, HTTPS) if https else HEADERS
        self._shared = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=ASKED,
            expose_headers=EXPOSED,
            max_age=3600,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = dict(scope["headers"])
        path: str = scope["path"]
        request_id = _request_id(asked.get(b"x-request-id", b"").decode("latin-1"))
        scope.setdefault("state", {})["request_id"] = request_id
        wanted = [(b"x-request-id", request_id.encode()), *self._fixed]
        if b"authorization" in asked or b"x-api-key" in asked or path.startswith("/auth/"):
            wanted.append(PRIVATE)
        if path.startswith(DOCS):
            wanted = [(name, DOCS_POLICY if name == POLICY else value) for name, value in wanted]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = complete(message.get("headers", ()), wanted)
            await send(message)

        app = self._shared if b"origin" in asked else self.app
        if path.endswith(UPLOADS):
            # Whatever it is called, it is judged by its content where it is read.
            asked[b"content-type"] = b"application/octet-stream"
        if asked.keys().isdisjoint(OF_BODIES):
            await app(scope, receive, send_with_headers)
        else:
            await app(scope, bounded(receive, path, asked), send_with_headers)


class Named:
    """The ASGI middleware that has the log name the request by its id; what is kept ready logs nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if request_id := scope.get("state", {}).get("request_id"):
            ANSWERED.set(request_id)
        await self.app(scope, receive, send)


def complete(
    headers: Iterable[tuple[bytes, bytes]], wanted: Iterable[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """The headers, and those of the wanted ones that the answer did not choose itself."""
    found = list(headers)
    names = {name for name, _ in found}
    return found + [header for header in wanted if header[0] not in names]


def _request_id(given: str) -> str:
    """The client's own id where it is one that can stand in a log, else a new one."""
    if given and REQUEST_ID.fullmatch(given):
        return given
    return f"{random.getrandbits(128):032x}"


def bounded(receive: Receive, path: str, asked: dict[bytes, bytes]) -> Receive:
    """The body, or HTTPException while it is read: 413 if it is too long, 400 if it is nested too deep."""
    limit = UPLOAD_LIMIT if path.endswith(UPLOADS) else BODY_LIMIT
    declared = asked.get(b"content-length", b"0")
    too_long = declared.isdigit() and (len(declared) > LONGEST_LENGTH or int(declared) > limit)
    opaque = asked.get(b"content-type", b"").decode("latin-1").lower().startswith(OPAQUE)
    parts: list[bytes] = []
    size = 0

    async def receive_bounded() -> Message:
        nonlocal size
        if too_long:
            raise HTTPException(413, f"The body is larger than {limit} bytes.")
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise HTTPException(413, f"The body is larger than {limit} bytes.")
        if not opaque:
            parts.append(part)
            if not message.get("more_body"):
                _require_shallow(b"".join(parts))
                parts.clear()
        return message

    return receive_bounded


def _require_shallow(body: bytes) -> None:
    if b"\x00" in body:
        raise HTTPException(400, "The body has the character NUL in it; JSON is sent as UTF-8.")
    if is_deep(body):
        raise HTTPException(400, f"The body is nested more than {DEPTH_LIMIT} deep.")


def is_deep(body: bytes) -> bool:
    """Whether JSON is nested deeper than is read; each byte is looked at once."""
    if body.count(b"[") + body.count(b"{") <= DEPTH_LIMIT:
        return False
    depth = 0
    for token in TOKENS.finditer(body):
        first = body[token.start()]
        depth += (first in b"[{") - (first in b"]}")
        if depth > DEPTH_LIMIT:
            return True
    return False
