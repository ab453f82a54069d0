"""Credentials: issued, read as they were signed, revoked, suspended, deleted and verified."""

from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response

from obms.app import Server
from obms.badges import access, credentials, issuing, profiles, signatures, statuses, tokens, verifying
from obms.badges.standings import read_standing
from obms.domain import REVOCATION
from obms.errors import Gone
from obms.specs import Json, credential_url, iso
from obms.web.context import (
    TheActor,
    ThePage,
    TheServer,
    announce,
    read_id,
    reading,
    writing,
)
from obms.web.models import CredentialBody, ReasonBody
from obms.web.orders import order_of
from obms.web.standing import ROLES, StandingBody, Wanted, change, set_standing
from obms.web.tokens import JWT_TYPE, token_key, wants_token

router = APIRouter(tags=["credentials"])
Format = Annotated[Literal["json", "jwt"] | None, Query(description="`jwt` gives the compact token.")]


def shown(kept: credentials.Kept) -> Json:
    """The credential as JSON; of a VC-JWT what its payload says."""
    return signatures.read(kept.document, kept.proof)


def _answer(request: Request, kept: credentials.Kept, wanted: str | None, status: int = 200) -> Response:
    """The document byte for byte as it was signed, where it was signed in the form that is wanted."""
    if kept.proof == "data-integrity":
        return Response(kept.document, status, media_type="application/json")
    if wants_token(request, wanted):
        return Response(kept.document, status, media_type=JWT_TYPE)
    return Response(signatures.read_text(kept.document), status, media_type="application/json")


@router.post("/credentials", status_code=201)
def create_credential(
    body: CredentialBody,
    request: Request,
    server: TheServer,
    actor: TheActor,
    format: Format = None,  # noqa: A002
) -> Response:
    order = order_of(server, body)
    if format == "jwt":
        order = replace(order, proof="jwt")
    with writing(server) as connection:
        achievement = profiles.find_achievement(connection, order.achievement_id)
        actor.require(achievement.issuer_id, *ROLES)
        kept = credentials.find(connection, issuing.issue(connection, server.site, order))
        access.record(connection, server.site, actor, "credential.issue", kept.id)
    response = _answer(request, kept, format, 201)
    response.headers["Location"] = credential_url(server.site.base_url, kept.id)
    return response


@router.get("/credentials")
def list_credentials(
    request: Request, response: Response, server: TheServer, actor: TheActor, page: ThePage
) -> list[dict[str, Any]]:
    with reading(server) as connection:
        found, total = credentials.list_page(connection, page, issuer_ids=actor.issuer_ids())
    announce(request, response, page, total)
    return [shown(kept) for kept in found]


def find_standing(connection: sa.Connection, credential_id: str) -> credentials.Kept:
    """The credential. Gone if it was revoked or deleted, NotFound if it never was."""
    status = statuses.read_status(connection, credential_id)
    if status is not None and status.revoked:
        raise Gone(id=credential_id, reason=status.reason)
    return credentials.find(connection, credential_id)


@router.get("/credentials/{credential_id}")
def read_credential(
    credential_id: str,
    request: Request,
    server: TheServer,
    format: Format = None,  # noqa: A002
) -> Response:
    with reading(server) as connection:
        kept = find_standing(connection, read_id("credential", credential_id))
    if kept.proof == "data-integrity" and wants_token(request, format):
        token = tokens.as_token(server.site, token_key(server, kept.issuer_id), kept)
        return Response(token, media_type=JWT_TYPE)
    return _answer(request, kept, format)


@router.delete("/credentials/{credential_id}", status_code=204)
def delete_credential(credential_id: str, server: TheServer, actor: TheActor) -> None:
    found = read_id("credential", credential_id)
    with writing(server) as connection:
        actor.require(credentials.find(connection, found).issuer_id, *ROLES)
        credentials.delete(connection, server.site, found)
        access.record(connection, server.site, actor, "credential.delete", found)
        standing = read_standing(connection, found, REVOCATION)
    server.keep([standing])


@router.post("/credentials/{credential_id}/revoke")
def revoke_credential(
    credential_id: str, server: TheServer, actor: TheActor, body: ReasonBody | None = None
) -> dict[str, Any]:
    return _change(server, actor, credential_id, "revoked", body)


@router.post("/credentials/{credential_id}/suspend")
def suspend_credential(
    credential_id: str, server: TheServer, actor: TheActor, body: ReasonBody | None = None
) -> dict[str, Any]:
    return _change(server, actor, credential_id, "suspended", body)


@router.post("/credentials/{credential_id}/unsuspend")
def unsuspend_credential(
    credential_id: str, server: TheServer, actor: TheActor, body: ReasonBody | None = None
) -> dict[str, Any]:
    return _change(server, actor, credential_id, "active", body)


def _change(
    server: Server, actor: access.Actor, credential_id: str, wanted: Wanted, body: ReasonBody | None
) -> Json:
    """Do it, and answer where the credential stands then; doing it twice changes nothing."""
    id = read_id("credential", credential_id)
    with writing(server) as connection:
        told, entry = change(connection, server, actor, id, wanted, body.reason if body else None)
    # After the commit, so that nothing is kept that never was; before the answer, and again when the
    # request is repeated, so that nothing is answered for that is not kept.
    server.keep([entry])
    return told


@router.post("/credentials/{credential_id}/status")
def change_status(
    credential_id: str, body: StandingBody, server: TheServer, actor: TheActor
) -> dict[str, Any]:
    id = read_id("credential", credential_id)
    with writing(server) as connection:
        told, entry = set_standing(connection, server, actor, id, body)
    server.keep([entry])
    return told


@router.get("/credentials/{credential_id}/verify")
def verify_credential(credential_id: str, server: TheServer) -> dict[str, Any]:
    found = read_id("credential", credential_id)
    with reading(server) as connection:
        verdict = verifying.verify(connection, server.site, found)
    if verdict is None:
        return shown_deleted(server)
    return shown_verdict(verdict)


def shown_verdict(verdict: verifying.Verdict) -> Json:
    return {
        "isValid": verdict.is_valid,
        "isExpired": verdict.is_expired,
        "isRevoked": verdict.is_revoked,
        "isSuspended": verdict.is_suspended,
        "hasValidSignature": verdict.has_valid_signature,
        "errorCode": verdict.error_code,
        "details": verdict.detail,
        "verifiedAt": iso(verdict.verified_at),
        "verificationMethod": verdict.verification_method,
        "cryptosuite": verdict.cryptosuite,
        "checks": [asdict(check) for check in verdict.checks],
    }


def shown_deleted(server: Server) -> Json:
    """The verdict on a credential whose document is not here any more: only that it is revoked."""
    return {
        "isValid": False,
        "isExpired": False,
        "isRevoked": True,
        "isSuspended": False,
        "hasValidSignature": False,
        "errorCode": "CREDENTIAL_REVOKED",
        "details": statuses.REASON_DELETED,
        "verifiedAt": iso(server.site.clock()),
    }
