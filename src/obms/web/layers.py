"""The application with its own layers around the framework's, so that what is kept ready passes few."""

from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from obms.web.answers import tell_refusals


class Api(FastAPI):
    """A FastAPI application whose added middleware stands outside of the layers of the framework.

    As there, the one that is added last is the outermost.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._outermost: ASGIApp = super().__call__

    def add_middleware(self, middleware_class: Any, *args: Any, **kwargs: Any) -> None:
        self._outermost = middleware_class(self._outermost, *args, **kwargs)

    def openapi(self) -> dict[str, Any]:
        is_new = self.openapi_schema is None
        document = super().openapi()
        if is_new:
            tell_refusals(document)
        return document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self._outermost(scope, receive, send)
