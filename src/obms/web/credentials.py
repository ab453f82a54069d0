"""Credentials: issued, read as they were signed, changed, revoked, suspended, deleted and verified."""

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from obms.badges import access, credentials, issuing, profiles, signatures, statuses, tokens, verifying
from obms.badges.keys import ED25519, RSA
from obms.badges.standings import read_standing
from obms.domain import REVOCATION, ProofKind
from obms.server import Server
from obms.specs import Json, iso
from obms.web.accepting import prefers
from obms.web.answers import GONE, JSON, JWS_TYPE, NO_KEY, SIGNED, UNCHANGED, of_types
from obms.web.context import (
    TheActor,
    ThePage,
    TheServer,
    announce,
    read_id,
    reading,
    require_same,
    writing,
)
from obms.web.forms import Form, TheForm
from obms.web.models import CredentialBody, ReasonBody
from obms.web.orders import order_of
from obms.web.standing import ROLES, StandingBody, Wanted, change, set_standing
from obms.web.tokens import JWT_TYPE, token_key

router = APIRouter(tags=["credentials"])
Format = Annotated[
    Literal["json", "jwt", "jws"] | None,
    Query(description="`jwt` gives the compact token; under /v2 `jws` gives the assertion signed."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a client wants to be told of a credential."""

    form: Form
    format: Literal["json", "jwt", "jws"] | None
    accepts_token: bool

    @property
    def is_token(self) -> bool:
        if self.format is None:
            return self.accepts_token and self.form.signs
        return self.format != "json"

    @property
    def proof(self) -> ProofKind | None:
        """How what is signed is to be signed."""
        return "jwt" if self.form.signs and self.format == "jwt" else None


def wish_of(request: Request, form: TheForm, format: Format = None) -> Wish:  # noqa: A002
    return Wish(form=form, format=format, accepts_token=prefers(request, JWT_TYPE))


TheWish = Annotated[Wish, Depends(wish_of)]


def _answer(connection: sa.Connection, wish: Wish, kept: credentials.Kept, status: int = 200) -> Response:
    """The document byte for byte as it was signed, where the form and the client want that."""
    if not wish.form.signs:
        (told,) = wish.form.credentials(connection, [kept])
        return JSONResponse(told, status)
    if kept.proof == "data-integrity":
        return Response(kept.document, status, media_type="application/json")
    if wish.is_token:
        return Response(kept.document, status, media_type=JWT_TYPE)
    return Response(signatures.write(credentials.read_document(kept)), status, media_type="application/json")


@router.post("/credentials", status_code=201, responses=of_types(201, JSON, JWT_TYPE))
def create_credential(
    body: CredentialBody,
    server: TheServer,
    actor: TheActor,
    wish: TheWish,
) -> Response:
    order = order_of(server, body)
    order = replace(order, proof=wish.proof or order.proof)
    with writing(server) as connection:
        achievement = profiles.find_achievement(connection, order.achievement_id)
        actor.require(achievement.issuer_id, *ROLES)
        kept = credentials.find(connection, issuing.issue(connection, server.site, order))
        access.record(connection, server.site, actor, "credential.issue", kept.id)
        response = _answer(connection, wish, kept, 201)
    response.headers["Location"] = wish.form.credential_url(kept.id)
    return response


@router.get("/credentials")
def list_credentials(
    request: Request, response: Response, server: TheServer, actor: TheActor, form: TheForm, page: ThePage
) -> list[dict[str, Any]]:
    with reading(server) as connection:
        found, total = credentials.list_page(connection, page, issuer_ids=actor.issuer_ids())
        shown = form.credentials(connection, found)
    announce(request, response, page, total)
    return shown


def find_standing(connection: sa.Connection, credential_id: str, form: Form) -> credentials.Kept:
    """The credential. Gone if it was revoked or deleted, NotFound if it never was."""
    status = statuses.read_status(connection, credential_id)
    if status is not None and status.revoked:
        raise form.gone(credential_id, status.reason)
    return credentials.find(connection, credential_id)


@router.get("/credentials/{credential_id}", responses=SIGNED | UNCHANGED | GONE | NO_KEY)
def read_credential(
    credential_id: str,
    server: TheServer,
    wish: TheWish,
) -> Response:
    id = read_id("credential", credential_id)
    with reading(server) as connection:
        kept = find_standing(connection, id, wish.form)
        if not wish.is_token or (wish.form.signs and kept.proof == "jwt"):
            return _by_accept(_answer(connection, wish, kept))
    return _by_accept(_made_token(server, wish, kept))


def _by_accept(response: Response) -> Response:
    """Whoever keeps a copy is told that others who accept another form get another one."""
    response.headers["Vary"] = "Accept"
    return response


def _made_token(server: Server, wish: Wish, kept: credentials.Kept) -> Response:
    """The badge as a token that is signed now."""
    if wish.form.signs:
        key = token_key(server, kept.issuer_id, RSA, ED25519)
        return Response(tokens.as_token(server.site, key, kept), media_type=JWT_TYPE)
    # A signed badge of 2.0 is verified by an RSA key.
    key = token_key(server, kept.issuer_id, RSA)
    with reading(server) as connection:
        token = tokens.as_signed_assertion(connection, server.site, key, kept)
    return Response(token, media_type=JWS_TYPE)


@router.put("/credentials/{credential_id}", responses=of_types(200, JSON, JWT_TYPE) | GONE)
def change_credential(
    credential_id: str,
    body: CredentialBody,
    server: TheServer,
    actor: TheActor,
    wish: TheWish,
) -> Response:
    """The whole credential anew, signed anew; it keeps its id and its places in the status lists."""
    id = read_id("credential", credential_id)
    require_same(server, body.id, id)
    order = order_of(server, body)
    with writing(server) as connection:
        kept = _find_mine(connection, wish.form, actor, id)
        held = issuing.order_again(connection, kept, proof=wish.proof or body.proof)
        results = held.results if body.results is None else order.results
        order = replace(order, results=results, proof=held.proof, alg=body.alg or held.alg)
        issuing.reissue(connection, server.site, kept, order)
        access.record(connection, server.site, actor, "credential.change", id)
        return _answer(connection, wish, credentials.find(connection, id))


@router.post("/credentials/{credential_id}/sign", responses=of_types(200, JSON, JWT_TYPE) | GONE)
def sign_credential(
    credential_id: str,
    server: TheServer,
    actor: TheActor,
    wish: TheWish,
    key_id: Annotated[
        str | None, Query(alias="keyId", max_length=500, description="A key of its issuer.")
    ] = None,
) -> Response:
    """Sign it anew, by the key in use or the one that is named; what it says is what it said."""
    id = read_id("credential", credential_id)
    with writing(server) as connection:
        kept = _find_mine(connection, wish.form, actor, id)
        order = issuing.order_again(connection, kept, proof=wish.proof, key_id=key_id)
        issuing.reissue(connection, server.site, kept, order, key_id=key_id)
        access.record(connection, server.site, actor, "credential.sign", id)
        return _answer(connection, wish, credentials.find(connection, id))


def _find_mine(connection: sa.Connection, form: Form, actor: access.Actor, id: str) -> credentials.Kept:
    """The credential, which the actor may sign; NotFound, Forbidden, Gone."""
    actor.require(credentials.find(connection, id).issuer_id, *ROLES)
    return find_standing(connection, id, form)


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
