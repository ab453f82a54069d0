"""Verifiable credentials of whatever kind: their payload in a token."""

from collections.abc import Mapping
from datetime import datetime

from obms.specs import Json

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
