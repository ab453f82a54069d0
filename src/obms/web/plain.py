"""What is asked, made plain before anything else sees it: HEAD as GET, no slash at the end.

A redirect instead would name the scheme and the host that a proxy has asked by, and lose the body of a POST.
"""

from starlette.types import ASGIApp, Receive, Scope, Send


class Plain:
    """The ASGI middleware that does it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        if scope["method"] == "HEAD":
            # The web server, which has the request as it was, keeps the body to itself.
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)
