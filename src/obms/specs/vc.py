"""Verifiable credentials of whatever kind: their payload in a token."""

from collections.abc import Mapping
from datetime import UTC, datetime

from obms.specs import Json, iso, vcdm

REGISTERED = ("iss", "jti", "nbf", "exp", "sub")


def issuer_of(document: Mapping[str, object]) -> str | None:
    """The id of the issuer, which is an object or the id itself."""
    issuer = document.get("issuer")
    id = issuer.get("id") if isinstance(issuer, Mapping) else issuer
    return id if isinstance(id, str) else None


def jwt_claims(document: Mapping[str, object]) -> Json:
    """The payload of a VC-JWT: the document itself, and beside its members the registered claims."""
    return {**document, **registered_claims(document)}


def registered_claims(document: Mapping[str, object]) -> Json:
    """What stands in a VC-JWT beside the members of the document."""
    claims: Json = {}
    if issuer := issuer_of(document):
        claims["iss"] = issuer
    if isinstance(id := document.get("id"), str):
        claims["jti"] = id
    for claim, name in (("nbf", "validFrom"), ("exp", "validUntil")):
        if name in document:
            claims[claim] = int(datetime.fromisoformat(str(document[name])).timestamp())
    return claims


def jwt_document(claims: Mapping[str, object]) -> Json:
    """The document inside the payload of a VC-JWT."""
    return {name: value for name, value in claims.items() if name not in REGISTERED}


def credential_in(claims: Mapping[str, object]) -> Json:
    """The credential in the payload of a token: the payload itself or, by version 1.1, what is under `vc`.

    What is left out there is told by the registered claims (data model 1.1, section 6.3.1).
    """
    inside = claims.get("vc")
    if "@context" in claims or not isinstance(inside, Mapping):
        return jwt_document(claims)
    document = dict(inside)
    start, end = period_of(document)
    for name, claim in (("issuer", "iss"), ("id", "jti"), (start, "nbf"), (end, "exp")):
        if claim in claims:
            document.setdefault(name, _said(claim, claims[claim]))
    subject = document.get("credentialSubject")
    if isinstance(subject, Mapping) and "sub" in claims:
        document["credentialSubject"] = {"id": claims["sub"], **subject}
    return document


def _said(claim: str, value: object) -> object:
    """What is no time is left as it is: a credential with it is not well formed."""
    try:
        return time_of(value) if claim in ("nbf", "exp") else value
    except (ValueError, OverflowError, OSError):
        return value


def period_of(document: Mapping[str, object]) -> tuple[str, str]:
    """What the members are called that tell from when to when it holds."""
    return ("issuanceDate", "expirationDate") if vcdm.is_earlier(document) else ("validFrom", "validUntil")


def time_of(seconds: object) -> str:
    """A NumericDate as a time; ValueError or OverflowError for what is none."""
    return iso(datetime.fromtimestamp(float(str(seconds)), UTC))
