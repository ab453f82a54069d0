"""Endorsements: what somebody else signed for an achievement, and whether they really did."""

import json
import uuid
from collections.abc import Mapping
from typing import Any

import jwt
import sqlalchemy as sa
from openbadgeslib.errors import LibOpenBadgesException
from openbadgeslib.ob3 import resolve_did, verify_data_integrity_proof

from obms.badges import keys
from obms.badges.signatures import WITHOUT_TIME, BadSignature
from obms.domain import Endorsement
from obms.errors import Invalid
from obms.specs import Json

FIELD = "endorsement"
ALGORITHMS = ["EdDSA", "RS256", "ES256"]


def is_token(document: str) -> bool:
    """Whether an endorsement was signed as a compact token, rather than as JSON."""
    return not document.startswith("{")


def payload(document: str) -> Json:
    """What an endorsement says, its proof not checked. Invalid if a token holds no JSON."""
    if not is_token(document):
        return dict(json.loads(document))
    try:
        return dict(jwt.decode(document, options={"verify_signature": False}))
    except jwt.PyJWTError as error:
        raise Invalid(**{FIELD: [f"is neither a credential nor a compact token: {error}"]}) from error


def make(connection: sa.Connection, document: str, *, about: bool) -> Endorsement:
    """An endorsement to be kept. Invalid if it carries a proof that is wrong.

    One that is not `about` the achievement, that has no proof, or whose signer has no key at hand,
    is kept and shown, and goes into no badge.
    """
    try:
        proven = check(connection, document) and about
    except BadSignature as error:
        raise Invalid(**{FIELD: [f"its proof is not valid: {error}"]}) from error
    return Endorsement(id=str(uuid.uuid4()), document=document, proven=proven)


def check(connection: sa.Connection, document: str) -> bool:
    """Whether the endorser signed it; False where there is no proof, or no key at hand to check it by.

    BadSignature if the proof is wrong. The time is not judged: a badge keeps what was said once.
    """
    said = payload(document)
    method = _method(document, said)
    if method is None:
        return False
    endorser = _id(said.get("issuer"))
    if method.partition("#")[0] != endorser:
        raise BadSignature(f"it names the key {method}, which is not its issuer's ({endorser})")
    pem = _public_pem(connection, method)
    if pem is None:
        return False
    _check_by(pem, document, said)
    return True


def _method(document: str, said: Json) -> str | None:
    """The key that the proof names; None without a proof."""
    if is_token(document):
        kid = jwt.get_unverified_header(document).get("kid")
        return str(kid) if kid else _id(said.get("issuer"))
    proof = said.get("proof")
    if isinstance(proof, list):
        proof = proof[0] if proof else None
    if not isinstance(proof, Mapping):
        return None
    return str(proof.get("verificationMethod"))


def _id(value: object) -> str | None:
    found = value.get("id") if isinstance(value, Mapping) else value
    return found if isinstance(found, str) else None


def _public_pem(connection: sa.Connection, method: str) -> str | None:
    """The key of a `did:key`, which is in its name, or of an issuer here; nothing is fetched."""
    did, _, fragment = method.partition("#")
    if did.startswith("did:key:"):
        try:
            return resolve_did(did).decode()
        except (LibOpenBadgesException, ValueError) as error:
            raise BadSignature(str(error)) from error
    key = keys.read_key(connection, fragment)
    return key.public_pem if key and did.endswith(f":issuers:{key.issuer_id}") else None


def _check_by(pem: str, document: str, said: Json) -> None:
    try:
        if is_token(document):
            jwt.decode(document, pem, algorithms=ALGORITHMS, options=WITHOUT_TIME)
        else:
            verify_data_integrity_proof(said, pem)
    except (jwt.PyJWTError, LibOpenBadgesException, ValueError, TypeError) as error:
        raise BadSignature(str(error)) from error


def subject_id(document: str) -> str | None:
    """What an endorsement is about."""
    subject: Any = payload(document).get("credentialSubject")
    return _id(subject)
