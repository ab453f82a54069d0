"""The W3C's VC-API, so that its test suites, and others who speak it, can issue and verify here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from obms.badges import access, exchange, presentations
from obms.badges.fetching import Visit
from obms.domain import JoseName
from obms.errors import Busy, Invalid
from obms.server import Server
from obms.specs import Json, issuer_did, issuer_url, vc
from obms.web.answers import JSON, Responses
from obms.web.context import TheActor, TheServer, read_id, reading, writing
from obms.web.standing import ROLES

router = APIRouter(prefix="/vc", tags=["VC-API"])
TOKEN_LIMIT = 256 * 1024
# What callers name a token by, in whichever of their options.
TOKENS = ("jwt", "vc+jwt", "vc-jwt", "jwt_vc", "application/vc+jwt")
NOT_VERIFIED: Responses = {400: {"description": "It does not verify.", "content": {JSON: {}}}}
PROBLEMS: dict[exchange.Kind, tuple[str, str]] = {
    "malformed": ("https://www.w3.org/TR/vc-data-model#MALFORMED_VALUE_ERROR", "A value is malformed"),
    "proof": ("https://w3id.org/security#PROOF_VERIFICATION_ERROR", "The proof does not verify"),
    "period": ("https://www.w3.org/TR/vc-data-model#RANGE_ERROR", "It is not in its time"),
    "status": (
        "https://www.w3.org/ns/credentials/status-list#STATUS_VERIFICATION_ERROR",
        "It was taken back",
    ),
}


class Options(BaseModel):
    """What is not known here is left alone, as the VC-API wants it."""

    model_config = ConfigDict(extra="allow")

    format: str | None = None
    type: str | None = None
    alg: JoseName | None = None
    challenge: str | None = None
    domain: str | None = None


class IssueBody(BaseModel):
    credential: dict[str, Any]
    options: Options = Options()


class VerifyBody(BaseModel):
    credential: dict[str, Any] | Annotated[str, Field(max_length=TOKEN_LIMIT)] = Field(
        alias="verifiableCredential"
    )
    options: Options = Options()


class VerifyPresentationBody(BaseModel):
    presentation: dict[str, Any] = Field(alias="verifiablePresentation")
    options: Options = Options()


@router.post("/credentials/issue", status_code=201)
def issue_credential(body: IssueBody, server: TheServer, actor: TheActor) -> dict[str, Any]:
    """Sign a credential whose issuer is one of ours; it is not kept, and has no place in a status list."""
    issuer_id = _issuer_of(server, body.credential)
    with writing(server) as connection:
        actor.require(issuer_id, *ROLES)
        alg = _alg(body.options)
        signed = exchange.issue(connection, server.site, issuer_id, body.credential, alg)
        access.record(
            connection, server.site, actor, "vc.issue", issuer_id, {"id": body.credential.get("id")}
        )
    return {"verifiableCredential": signed}


def _issuer_of(server: Server, document: Json) -> str:
    """The bare id of the issuer that a credential names, by its did:web or its URL; Invalid for any other."""
    named = vc.issuer_of(document) or ""
    for start in (issuer_did(server.site.base_url, ""), issuer_url(server.site.base_url, "")):
        if named.startswith(start):
            return read_id("issuer", named.removeprefix(start))
    raise Invalid(issuer=["must be the did:web of an issuer of this server"])


def _alg(options: Options) -> JoseName | None:
    """The algorithm where a token is wanted."""
    wanted = {options.format, options.type} & set(TOKENS)
    return options.alg or ("RS256" if wanted else None)


@router.post("/credentials/verify", responses=NOT_VERIFIED)
def verify_credential(body: VerifyBody, server: TheServer) -> JSONResponse:
    with _desk(server) as desk:
        return _told(exchange.verify(desk, body.credential))


@router.post("/presentations/verify", responses=NOT_VERIFIED)
def verify_presentation(body: VerifyPresentationBody, server: TheServer) -> JSONResponse:
    """Verify a presentation with its credentials, for the challenge and the domain in the options."""
    challenge, domain = body.options.challenge, body.options.domain
    with _desk(server) as desk:
        return _told(presentations.verify_presentation(desk, body.presentation, challenge, domain))


@contextmanager
def _desk(server: Server) -> Iterator[exchange.Desk]:
    """Keys of did:web are fetched; Busy where too much else is being fetched."""
    visit = Visit(server.fetcher, lambda _url: None)
    with reading(server) as connection:
        yield exchange.Desk(connection=connection, site=server.site, visit=visit)
    if visit.is_refused:
        raise Busy


def _told(report: exchange.Report) -> JSONResponse:
    """200 where nothing is wrong, else 400."""
    return JSONResponse(
        {
            "verified": not report.errors,
            "checks": report.checks,
            "warnings": report.warnings,
            "errors": [_problem(finding) for finding in report.errors],
        },
        400 if report.errors else 200,
    )


def _problem(finding: exchange.Finding) -> Json:
    kind, title = PROBLEMS[finding.kind]
    detail = f"{finding.member}: {finding.detail}" if finding.member else finding.detail
    return {"type": kind, "title": title, "detail": detail}
