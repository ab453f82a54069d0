"""Fetching what a foreign badge refers to: from the open web only, little, and not for long.

The addresses come from whoever wrote the badge. So each is resolved once, refused unless all that it
resolves to is public, and connected to by the address that was looked at; a redirect is a new address.
"""

import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import httpcore

Resolve = Callable[[str, int], Sequence[str]]
PORTS = {"http": 80, "https": 443}
URL_LIMIT, BODY_LIMIT, REDIRECT_LIMIT = 2_000, 5 * 1024 * 1024, 3
# Of one verification: how many addresses, how many bytes, how long.
FETCH_LIMIT, SIZE_LIMIT, SECONDS = 12, 8 * 1024 * 1024, 20.0
# Of one process at a time, so that slow servers of others do not hold up ours.
SLOTS = 8
REDIRECTS = (301, 302, 303, 307, 308)
OK, GONE = 200, 410
MEDIA_TYPES = re.compile(
    r"(application/([a-z0-9.+-]+\+)?(json|jwt|jose|octet-stream)|text/plain|image/(png|svg\+xml))?",
    re.IGNORECASE,
)
# Without compression: what arrives is what was sent, and no bomb.
HEADERS = (
    ("Accept", "application/json, */*;q=0.1"),
    ("Accept-Encoding", "identity"),
    ("User-Agent", "openbadges-modular-server"),
)
# Addresses of the new version of IP that lead on to others of the old one.
TUNNELS = tuple(ipaddress.ip_network(each) for each in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16"))


class NotFetched(Exception):
    """The address is refused, or nothing usable is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What stands at an address; its status is 200 or 410."""

    status: int
    content: bytes


def resolve_host(host: str, port: int) -> list[str]:
    """The addresses of a name, as the system resolves it."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, proto=socket.IPPROTO_TCP)]


def is_public(text: str) -> bool:
    """Whether an address is one of the open web."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(str(address.ipv4_mapped))
        if address.is_site_local or any(address in network for network in TUNNELS):
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetcher:
    """Who may be asked. `allowed` are origins, as `http://localhost:8080`, that are asked in spite of it."""

    allowed: tuple[str, ...] = ()
    resolve: Resolve = resolve_host
    seconds: float = SECONDS
    slots: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(SLOTS))

    def fetch(self, url: str, deadline: float) -> Fetched:
        """What stands at the URL, or NotFetched; `deadline` is of the monotonic clock."""
        for _ in range(1 + REDIRECT_LIMIT):
            target, address = self._check(url)
            try:
                status, headers, content = _exchange(target, address, deadline)
            except NETWORK_ERRORS as error:
                raise NotFetched(f"{url} does not answer: {type(error).__name__} {error}") from error
            if status not in REDIRECTS:
                return _checked(url, status, headers, content)
            url = urljoin(url, headers.get("location", ""))
        raise NotFetched(f"more than {REDIRECT_LIMIT} redirects, the last to {url[:URL_LIMIT]}")

    def _check(self, url: str) -> tuple[SplitResult, str]:
        """The parts of a URL that may be asked, and the address to connect to."""
        parts, port = _split(url)
        host = parts.hostname or ""
        scheme = self._allowed_scheme(host, port)
        if scheme is None and (parts.scheme != "https" or port not in PORTS.values()):
            raise NotFetched(f"{url} is not on https and a usual port")
        try:
            addresses = list(self.resolve(host, port))
            private = [each for each in addresses if not is_public(each)]
        except (OSError, ValueError) as error:
            raise NotFetched(f"{host} does not resolve") from error
        if not addresses or (private and scheme is None):
            raise NotFetched(f"{host} is not on the open web")
        bracketed = f"[{host}]" if ":" in host else host
        return parts._replace(scheme=scheme or parts.scheme, netloc=f"{bracketed}:{port}"), addresses[0]

    def _allowed_scheme(self, host: str, port: int) -> str | None:
        """The scheme by which an allowed host is asked; a did:web knows https only."""
        for origin in self.allowed:
            found = urlsplit(origin)
            if (found.hostname, found.port or PORTS.get(found.scheme)) == (host, port):
                return found.scheme
        return None


def _split(url: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(url)
        port = PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
        host = (parts.hostname or "").encode("idna").decode()
    except (ValueError, UnicodeError) as error:
        raise NotFetched("it is no URL") from error
    if len(url) > URL_LIMIT or re.search(r"[\x00-\x20\x7f\\]", url):
        raise NotFetched("it is no URL of a usual length and form")
    if parts.scheme not in PORTS or not host:
        raise NotFetched(f"{url} is no web address")
    if parts.username is not None or parts.password is not None:
        raise NotFetched(f"the address at {host} has a password in it")
    return parts._replace(netloc=f"[{host}]" if ":" in host else host), port


def _checked(url: str, status: int, headers: Mapping[str, str], content: bytes) -> Fetched:
    if status not in (OK, GONE):
        raise NotFetched(f"{url} answers {status}")
    media_type = headers.get("content-type", "").partition(";")[0].strip()
    if not MEDIA_TYPES.fullmatch(media_type):
        raise NotFetched(f"{url} answers with {media_type}")
    return Fetched(status=status, content=content)


def _exchange(target: SplitResult, address: str, deadline: float) -> tuple[int, dict[str, str], bytes]:
    pool = httpcore.ConnectionPool(
        ssl_context=_ssl_context(), network_backend=_Pinned(address, deadline), max_connections=1
    )
    path = target._replace(scheme="", netloc="", fragment="").geturl() or "/"
    url = f"{target.scheme}://{target.netloc}{path if path.startswith('/') else '/' + path}"
    with pool, pool.stream("GET", _quoted(url), headers=HEADERS) as response:
        found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        if found.get("content-encoding", "identity") != "identity":
            raise NotFetched(f"{target.hostname} answers compressed")
        return response.status, found, _read(response.iter_stream())


def _quoted(url: str) -> str:
    """The URL in ASCII, as a request line takes it."""
    return "".join(
        each if each.isascii() else "".join(f"%{byte:02X}" for byte in each.encode()) for each in url
    )


def _read(chunks: Iterable[bytes]) -> bytes:
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > BODY_LIMIT:
            raise NotFetched(f"it is larger than {BODY_LIMIT} bytes")
    return bytes(content)


@cache
def _ssl_context() -> ssl.SSLContext:
    return httpcore.default_ssl_context()


class _Pinned(httpcore.NetworkBackend):
    """Connects to the one address that was looked at, whatever the name resolves to by now."""

    def __init__(self, address: str, deadline: float) -> None:
        self.address = address
        self.deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        left = _left(self.deadline)
        return _Timed(httpcore.SyncBackend().connect_tcp(self.address, port, timeout=left), self.deadline)


class _Timed(httpcore.NetworkStream):
    """A stream whose every step ends by one deadline, however slowly the other side drips."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self.stream = stream
        self.deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.stream.read(max_bytes, timeout=_left(self.deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, timeout=_left(self.deadline))

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Timed(
            self.stream.start_tls(ssl_context, server_hostname, _left(self.deadline)), self.deadline
        )

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("it took too long")
    return left


NETWORK_ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    OSError,
)


class Visit:
    """The fetches of one verification: each address once, only so many, and all by one deadline.

    `own` answers for the addresses of this server, and gives None for any other. `is_refused` tells
    that nothing was asked because too much else is being asked at this moment.
    """

    def __init__(self, fetcher: Fetcher, own: Callable[[str], Fetched | None]) -> None:
        self.is_refused = False
        self._fetcher = fetcher
        self._own = own
        self._deadline = time.monotonic() + fetcher.seconds
        self._seen: dict[str, Fetched] = {}
        self._size = 0

    def fetch(self, url: str) -> Fetched:
        if url not in self._seen:
            if len(self._seen) >= FETCH_LIMIT or self._size > SIZE_LIMIT:
                raise NotFetched(
                    f"the badge refers to more than {FETCH_LIMIT} addresses or {SIZE_LIMIT} bytes"
                )
            found = self._own(url) or self._fetch(url)
            self._size += len(found.content)
            self._seen[url] = found
        return self._seen[url]

    def at_home(self, url: str) -> Fetched | None:
        """What this server itself says there; None for an address of another."""
        return self._own(url)

    def _fetch(self, url: str) -> Fetched:
        if not self._fetcher.slots.acquire(blocking=False):
            self.is_refused = True
            raise NotFetched("too much else is being fetched at this moment")
        try:
            return self._fetcher.fetch(url, self._deadline)
        finally:
            self._fetcher.slots.release()

    def __call__(self, url: str) -> bytes:
        """The content of what stands there now, as the library's functions ask for it."""
        found = self.fetch(url)
        if found.status != OK:
            raise NotFetched(f"{url} answers {found.status}")
        return found.content
