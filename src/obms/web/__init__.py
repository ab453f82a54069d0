"""The HTTP API: the application for a server, and what uvicorn starts."""

import ctypes
import gc
from contextlib import suppress
from functools import cache

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from obms import app
from obms.memory import share_among_threads
from obms.observe import configure_logging
from obms.server import Server
from obms.web import (
    achievements,
    assets,
    audit,
    auth,
    baked,
    batch,
    credentials,
    envelope,
    front,
    health,
    issuance,
    issuers,
    layers,
    limits,
    members,
    older,
    plain,
    problems,
    published,
    ready,
    status_lists,
    users,
    vc_api,
    verdicts,
    verify,
    version2,
)

PREFIXES = ("", "/v3", "/v2")
# M_MMAP_THRESHOLD of malloc.h
MMAP_THRESHOLD, LARGE = -3, 128 * 1024


def create_app(server: Server) -> FastAPI:
    """The API of a server. It keeps nothing between requests but the server itself."""
    api = layers.Api(
        title="openbadges-modular-server",
        summary="An Open Badges server whose database cannot be lost",
        version=server.version,
    )
    api.state.server = server
    api.state.started = server.site.clock()
    api.add_middleware(issuance.Issuance, server=server)  # the first is the innermost
    api.add_middleware(verdicts.Verdicts, server=server)
    api.add_middleware(envelope.Named)
    api.add_middleware(ready.Ready, server=server)
    api.state.logins = limits.Logins(server.gate)
    guard(api, server)
    problems.install(api)
    api.router.routes.extend(_routes())
    return api


@cache
def _routes() -> tuple[BaseRoute, ...]:
    """All routes. None depends on the server, so that each proof in a process finds them made."""
    every = APIRouter(generate_unique_id_function=_operation_id)
    # Before the routes of one credential, of which `batch` is no id.
    for prefix in PREFIXES:
        for router in (batch.router, older.older_names((batch.router,), prefix)):
            every.include_router(router, prefix=prefix)
    for module in (front, health, published, assets, version2, auth, users, audit, vc_api):
        every.include_router(module.router)
    resources = (issuers.router, achievements.router, credentials.router, status_lists.router)
    for prefix in PREFIXES:
        pictures = baked.router2 if prefix == "/v2" else baked.router
        for router in (*resources, pictures, older.older_names((*resources, pictures), prefix)):
            every.include_router(router, prefix=prefix)
        every.include_router(members.router, prefix=prefix)
        every.include_router(verify.router, prefix=prefix)
    return tuple(every.routes)


def guard(api: FastAPI, server: Server) -> None:
    """Put around it what every request passes: its bounds, its headers, and how many there may be."""
    gate = server.gate
    if gate.rate is not None:
        api.add_middleware(limits.RateLimit, gate=gate)
    https = server.site.base_url.startswith("https:")
    api.add_middleware(envelope.Envelope, origins=gate.origins, https=https)
    api.add_middleware(plain.Plain)
    if gate.proxies:
        from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

        api.add_middleware(ProxyHeadersMiddleware, trusted_hosts=[str(network) for network in gate.proxies])


def create() -> FastAPI:
    """What `uvicorn --factory obms.web:create` calls in each worker."""
    configure_logging()
    give_memory_back()
    api = create_app(app.open_server_from_environment())
    gc.freeze()  # what is there now stays: it need not be looked through for garbage again and again
    return api


def give_memory_back() -> None:
    """What is large glibc gives back at once, unless it has learnt from a larger one not to."""
    share_among_threads()
    with suppress(AttributeError):  # another C library has none
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE)


def _operation_id(route: APIRoute) -> str:
    path = route.path_format.strip("/").replace("/", "_").replace("{", "").replace("}", "")
    return f"{route.name}_{path}" if path else route.name
