"""How often one client may ask, and how often it may fail to log in; counted in each worker."""

import math
import time
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from fastapi import Request
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from obms.errors import TooManyRequests
from obms.gate import Gate, Network
from obms.web import problems

FREE = "/health"
KNOWN_CLIENTS = 10_000
# One network of IPv6 is one client: each has more addresses than could be counted.
CLIENT_PREFIX = 64


class Window:
    """A rate per name; None is no limit."""

    def __init__(self, rate: str | None) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._rate: RateLimitItem | None = parse(rate) if rate else None

    def count(self, name: str) -> bool:
        """Count one; whether it was within the rate."""
        return self._rate is None or self._limiter.hit(self._rate, name)

    def is_open(self, name: str) -> bool:
        """Whether one more would be within the rate."""
        return self._rate is None or self._limiter.test(self._rate, name)

    def seconds(self, name: str) -> int:
        """How long until there is room again."""
        if self._rate is None:
            return 0
        end = self._limiter.get_window_stats(self._rate, name).reset_time
        return max(1, math.ceil(end - time.time()))


class RateLimit:
    """The ASGI middleware that refuses a client that asks too often, before anything else is done for it."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self.app = app
        self._window = Window(gate.rate)
        self._name = lru_cache(KNOWN_CLIENTS)(lambda host: name_of(host, gate.exempt))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == FREE or scope.get("client") is None:
            await self.app(scope, receive, send)
            return
        name = self._name(scope["client"][0])
        if name is None or self._window.count(name):
            await self.app(scope, receive, send)
            return
        error = TooManyRequests(seconds=self._window.seconds(name))
        await problems.of_error(Request(scope), error)(scope, receive, send)


def name_of(host: str, exempt: Sequence[Network]) -> str | None:
    """What a client is counted by; None for one that is not. A client without an address is `host` itself."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if any(address in network for network in exempt):
        return None
    if isinstance(address, IPv6Address):
        return str(ip_network((address, CLIENT_PREFIX), strict=False))
    return str(address)


class Logins:
    """The failed logins: by client and by name, so that neither one client nor many guess a password."""

    MANY_CLIENTS = 10  # a name that is guessed at from everywhere is closed later than a client is

    def __init__(self, gate: Gate) -> None:
        self._window = Window(gate.login_rate)
        self._of_names = Window(_times(gate.login_rate, self.MANY_CLIENTS))

    def require_open(self, client: str, name: str) -> None:
        """TooManyRequests where too many failed; asked before the password is looked at."""
        if not self._window.is_open(client):
            raise TooManyRequests(seconds=self._window.seconds(client))
        if not self._of_names.is_open(name):
            raise TooManyRequests(seconds=self._of_names.seconds(name))

    def failed(self, client: str, name: str) -> None:
        self._window.count(client)
        self._of_names.count(name)


def _times(rate: str | None, factor: int) -> str | None:
    if rate is None:
        return None
    count, _, unit = rate.partition("/")
    return f"{int(count) * factor}/{unit}"


def client_of(request: Request) -> str:
    """What a client that logs in is counted by; nobody is exempt."""
    return (name_of(request.client.host, ()) if request.client else None) or "unknown"
