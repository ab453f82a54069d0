"""POST /verify: anybody's badge, in any form, judged check by check for everybody."""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import httpx
from fastapi import APIRouter, FastAPI, Request

from obms.badges import foreign
from obms.badges.fetching import GONE, OK, Fetched, NotFetched, Visit
from obms.badges.inquiry import SIGNATURE, Early, Expired, Report, Revoked, Suspended
from obms.errors import Busy, Invalid
from obms.server import Server
from obms.specs import Json, iso
from obms.web.context import TheServer
from obms.web.uploads import OF_FILE, TheUpload, Upload, text_field

router = APIRouter(tags=["verifying"])
SENT_AS = ("credential", "assertion", "badge", "image", "url", "token")
RECIPIENT_LIMIT = 2_000


@router.post("/verify", openapi_extra=OF_FILE)
def verify_anything(request: Request, server: TheServer, upload: TheUpload) -> dict[str, Any]:
    """Verify a badge of any issuer: its JSON, a compact token, a baked PNG or SVG, or its web address.

    It is the body, or the file of a form, or the member `credential`, `image` or `url` of a JSON
    object, beside which `recipient` may tell whom the badge should be for.
    """
    content, recipient = _sent(upload)
    if not content.strip():
        raise Invalid(body=["must be a badge, or a form or JSON object with one"])
    app: FastAPI = request.app
    visit = Visit(server.fetcher, lambda url: _own(app, server, url))
    report = foreign.judge(content, visit, server.site.clock(), recipient)
    if visit.is_refused:
        raise Busy
    return _shown(report)


def _sent(upload: Upload) -> tuple[bytes, str | None]:
    """The badge, and whom it should be for."""
    named = next((text for name in SENT_AS if (text := text_field(upload, name))), None)
    content = upload.content or (named or "").encode("utf-8", "replace")
    return _unwrapped(content, text_field(upload, "recipient"))


def _unwrapped(content: bytes, recipient: str | None) -> tuple[bytes, str | None]:
    """What is sent in a JSON text or object around the badge, or the badge as it is."""
    try:
        around = json.loads(content) if content.lstrip()[:1] in (b"{", b'"') else None
    except (ValueError, RecursionError):
        return content, recipient
    if isinstance(around, str):
        return around.encode("utf-8", "replace"), recipient
    if not isinstance(around, dict) or "@context" in around or "type" in around:
        return content, recipient
    sent = next((around[name] for name in SENT_AS if around.get(name)), None)
    if sent is None:
        return content, recipient
    text = sent if isinstance(sent, str) else json.dumps(sent, ensure_ascii=False)
    return text.encode("utf-8", "replace"), _recipient(around) or recipient


def _recipient(around: Json) -> str | None:
    found = around.get("recipient")
    if found is not None and not (isinstance(found, str) and 0 < len(found) <= RECIPIENT_LIMIT):
        raise Invalid(recipient=["must be the identity in plain text: an e-mail address, a URL"])
    return found


def _own(app: FastAPI, server: Server, url: str) -> Fetched | None:
    """What this server itself answers at one of its addresses, without the way over the network.

    A did:web says https whatever BASE_URL says, so the scheme is not compared.
    """
    own = urlsplit(server.site.base_url)
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.netloc.lower() != own.netloc.lower() or not parts.path.startswith(own.path + "/"):
        return None
    answer = asyncio.run(
        _ask(app, parts._replace(scheme="", netloc="", path=parts.path[len(own.path) :]).geturl())
    )
    if answer.status_code not in (OK, GONE):
        raise NotFetched(f"{url} is of this server, and there is nothing there")
    return Fetched(status=answer.status_code, content=answer.content)


async def _ask(app: FastAPI, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://own.invalid") as client:
        return await client.get(path)


def _shown(report: Report) -> dict[str, Any]:
    worst = report.gravest
    return {
        "isValid": report.is_valid,
        "isExpired": report.found(Expired),
        "isEarly": report.found(Early),
        "isRevoked": report.found(Revoked),
        "isSuspended": report.found(Suspended),
        "hasValidSignature": report.passed(SIGNATURE),
        "errorCode": report.error_code,
        "details": worst.detail if worst else None,
        "verifiedAt": iso(report.now),
        "verificationMethod": report.method if report.passed(SIGNATURE) else None,
        "cryptosuite": report.cryptosuite,
        "issuer": report.issuer,
        "checks": [{"name": each.name, "ok": each.ok, "detail": each.detail} for each in report.findings],
        "version": report.exhibit.version if report.exhibit else None,
        "credential": report.exhibit.document if report.exhibit else None,
        "token": report.exhibit.token if report.exhibit else None,
    }
