"""The older names of routes: /badge-classes for achievements, /assertions for credentials.

They do the same, and tell in each answer that they are deprecated, until when they stay, and what
comes in their place (RFC 9745, RFC 8594).
"""

from collections.abc import Iterable
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

OLDER = {"achievements": "badge-classes", "credentials": "assertions"}
NEWER = {older: newer for newer, older in OLDER.items()}
# 2026-12-01, and two years later.
DEPRECATED = "@1796083200"
SUNSET = "Fri, 01 Dec 2028 00:00:00 GMT"
TAKEN = {"/v2": {("GET", "/assertions/{credential_id}")}}


class OlderRoute(APIRoute):
    """A route that tells in its answers, errors too, which one takes its place."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Deprecation"] = DEPRECATED
                headers["Sunset"] = SUNSET
                link = f'<{successor(scope["path"])}>; rel="successor-version"'
                headers["Link"] = f"{headers['Link']}, {link}" if "Link" in headers else link
            await send(message)

        await super().handle(scope, receive, send_with_headers)


def successor(path: str) -> str:
    """The path by its newer names."""
    return "/".join(quote(NEWER.get(part, part)) for part in path.split("/"))


def older_name(path: str) -> str:
    return "/".join(OLDER.get(part, part) for part in path.split("/"))


def older_names(routers: Iterable[APIRouter], prefix: str) -> APIRouter:
    """The routes that have an older name, by it; those that stand under it already are left out."""
    made = APIRouter(route_class=OlderRoute, deprecated=True, tags=["older names"])
    for route in (route for router in routers for route in router.routes):
        if not isinstance(route, APIRoute) or (path := older_name(route.path)) == route.path:
            continue
        methods = sorted(route.methods or ())
        if any((method, path) in TAKEN.get(prefix, ()) for method in methods):
            continue
        made.add_api_route(
            path,
            route.endpoint,
            methods=methods,
            status_code=route.status_code,
            responses=route.responses,
            response_class=route.response_class,
            openapi_extra=route.openapi_extra,
            name=f"{route.name}_by_older_name",
        )
    return made
