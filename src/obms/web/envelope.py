"""Around each request: its id, a bound on its body, and the headers every answer has."""

import re
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT = 1024 * 1024
# A picture of 5 MB, in base64 too.
UPLOAD_LIMIT = 7 * 1024 * 1024
UPLOADS = ("/assets", "/verify")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Envelope:
    """The ASGI middleware that does it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "no-referrer"
            await send(message)

        await self.app(scope, _bounded(receive, limit_of(scope["path"])), send_with_headers)


def _request_id(headers: Headers) -> str:
    """The client's own id where it is one that can stand in a log, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def limit_of(path: str) -> int:
    """How many bytes a body may have."""
    return UPLOAD_LIMIT if path.endswith(UPLOADS) else BODY_LIMIT


def _bounded(receive: Receive, limit: int) -> Receive:
    received = 0

    async def receive_bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(413, f"The body is larger than {limit} bytes.")
        return message

    return receive_bounded
