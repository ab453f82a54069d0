"""An assertion of Open Badges 2.0, of any issuer: hosted at its own address, or signed."""

import json
from typing import Any
from urllib.parse import urlsplit

import jwt
from openbadgeslib.ob2.models import Assertion, CryptographicKey

from obms.badges.fetching import GONE, Visit
from obms.badges.foreign_keys import algorithms_of
from obms.badges.foreign_ob3 import is_same
from obms.badges.inquiry import (
    EXPIRY,
    KEY,
    RECIPIENT,
    SCHEMA,
    SIGNATURE,
    STATUS,
    Exhibit,
    Fault,
    Report,
    Revoked,
    check_window,
)
from obms.badges.reading import id_of, listed, read_object, read_token
from obms.badges.signatures import WITHOUT_TIME
from obms.specs import Json

# What is sent must be what stands at its address; all else is taken from there.
COMPARED = ("id", "badge")
HOSTED = "HostedBadge"


class Circle:
    """An assertion with its badge class and its issuer, as they stand on the web."""

    def __init__(self, document: Json, visit: Visit) -> None:
        self.document = {**document, "badge": id_of(document.get("badge"))}
        self.assertion = Assertion.from_dict(self.document)
        self.visit = visit
        self.badge: Json = {}
        self.issuer: Json = {}

    def fetch(self) -> str:
        """Fetch both. Fault if one lacks what it must have, or says that it is another one."""
        self.badge = self._fetch(self.assertion.badge, "BadgeClass", ("name", "description", "criteria"))
        url = id_of(self.badge.get("issuer"))
        if url is None:
            raise Fault("its badge class names no issuer")
        self.issuer = self._fetch(url, "", ("name",))
        return f"{str(self.badge['name'])[:200]}, of {str(self.issuer['name'])[:200]}"

    def _fetch(self, url: str, kind: str, members: tuple[str, ...]) -> Json:
        found = read_object(self.visit(url))
        missing = [name for name in members if not found.get(name)]
        if missing or id_of(found) != url or (kind and kind not in listed(found.get("type"))):
            raise Fault(
                f"{url[:200]} is no {kind or 'issuer'} of that address, or lacks {', '.join(missing)}"
            )
        return found


def examine(exhibit: Exhibit, report: Report) -> None:
    """Make every check that can be made."""
    circles: list[Circle] = []

    def open_circle() -> str:
        circles.append(Circle(exhibit.document, report.visit))
        return circles[0].fetch()

    is_whole = report.attempt(SCHEMA, open_circle)
    if not circles:
        report.skip(SIGNATURE, "what is no assertion has none")
        return
    circle = circles[0]
    report.issuer = id_of(circle.issuer)
    if circle.assertion.verification.type == HOSTED:
        report.attempt(SIGNATURE, lambda: _check_hosted(circle))
    elif is_whole:
        report.cryptosuite = "JWS"
        report.method = circle.assertion.verification.creator
        pems: list[str] = []
        if report.attempt(KEY, lambda: _find_key(circle, pems)):
            report.attempt(SIGNATURE, lambda: _check_token(exhibit, pems[0]))
    if is_whole:
        report.attempt(STATUS, lambda: _check_revocation(circle))
    else:
        report.skip(STATUS, "without its issuer it cannot be told")
    report.attempt(EXPIRY, lambda: check_window(report, circle.assertion.issued_on, circle.assertion.expires))
    if report.recipient:
        report.attempt(RECIPIENT, lambda: _check_recipient(circle.assertion, report.recipient or ""))


def _check_hosted(circle: Circle) -> str:
    """The copy at its own address is what counts; the issuer must speak for that address."""
    url = circle.assertion.id or ""
    fetched = circle.visit.fetch(url)
    served = read_object(fetched.content)
    if fetched.status == GONE or served.get("revoked") is True:
        raise Revoked(f"{url[:200]} says that it is revoked: {str(served.get('revocationReason'))[:200]}")
    copy = Circle(served, circle.visit)
    same = all(copy.document.get(name) == circle.document.get(name) for name in COMPARED)
    same = same and copy.assertion.recipient == circle.assertion.recipient
    same = same and copy.assertion.issued_on == circle.assertion.issued_on
    if not same or copy.assertion.expires != circle.assertion.expires:
        raise Fault(f"what stands at {url[:200]} is another assertion")
    if copy.assertion.verification.type != HOSTED:
        raise Fault(f"what stands at {url[:200]} is not hosted")
    _check_scope(url, circle.issuer)
    return f"{url[:200]} says the same"


def _check_scope(url: str, issuer: Json) -> None:
    verification = issuer.get("verification")
    told: dict[str, Any] = verification if isinstance(verification, dict) else {}
    prefixes = [each for each in listed(told.get("startsWith")) if isinstance(each, str)]
    hosts = [each for each in listed(told.get("allowedOrigins")) if isinstance(each, str)]
    if prefixes:
        speaks = any(_is_below(url, prefix) for prefix in prefixes)
    elif hosts:
        speaks = urlsplit(url).hostname in hosts
    else:
        speaks = _origin(url) == _origin(id_of(issuer) or "")
    if not speaks:
        raise Fault(f"the issuer does not speak for {url[:200]}")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _is_below(url: str, prefix: str) -> bool:
    """Of the same origin, and at or below the path; `https://a.example` is not above `https://a.example.b`."""
    path, top = urlsplit(url).path, urlsplit(prefix).path
    return _origin(url) == _origin(prefix) and (
        path == top or path.startswith(top.rstrip("/") + "/") or top in ("", "/")
    )


def _find_key(circle: Circle, pems: list[str]) -> str:
    """The key that the assertion names, where key and issuer name each other."""
    url = circle.assertion.verification.creator or next(_key_ids(circle.issuer), None)
    if url is None:
        raise Fault("neither the assertion nor its issuer names a key")
    key = CryptographicKey.from_dict(read_object(circle.visit(url)))
    if key.id != url or key.owner != id_of(circle.issuer) or url not in _key_ids(circle.issuer):
        raise Fault(f"the key {url[:200]} and the issuer do not name each other")
    pems.append(key.public_key_pem)
    return f"of {key.owner[:200]}"


def _key_ids(issuer: Json) -> Any:
    return (found for each in listed(issuer.get("publicKey")) if (found := id_of(each)))


def _check_token(exhibit: Exhibit, pem: str) -> str:
    if exhibit.token is None:
        raise Fault("it says that it is signed, and came without its signature")
    jwt.decode(exhibit.token, pem, algorithms=algorithms_of(pem), options=WITHOUT_TIME)
    return f"signed with {str(read_token(exhibit.token)[0].get('alg'))[:20]}"


def _check_revocation(circle: Circle) -> str:
    url = circle.issuer.get("revocationList")
    if url is None:
        return "the issuer publishes no list"
    if not isinstance(url, str):
        raise Fault("the list of the issuer has no address")
    for entry in listed(read_object(circle.visit(url)).get("revokedAssertions")):
        if id_of(entry) == circle.assertion.id:
            reason = entry.get("revocationReason") if isinstance(entry, dict) else None
            raise Revoked(f"the issuer's list has it: {json.dumps(reason)[:200]}")
    return f"not in {url[:200]}"


def _check_recipient(assertion: Assertion, expected: str) -> str:
    if not is_same(assertion.recipient.identity, assertion.recipient.salt, expected):
        raise Fault("it is for somebody else")
    return f"by its {assertion.recipient.type[:50]}"
