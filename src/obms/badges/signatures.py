"""The proof of a signed document, checked by a public key, whatever its validity in time."""

import base64
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.types import Options
from openbadgeslib.ob3 import OB3LdpVerifier, OB3VerificationError

from obms.badges import compact, data_integrity
from obms.domain import ProofKind
from obms.specs import Json, vc

CRYPTOSUITE, UNREADABLE = "eddsa-rdfc-2022", "unreadable"
# The library judges the time last, after form and signature: who gets that far has a valid proof.
ABOUT_TIME = ("Credential has expired", "Credential is not yet valid")
WITHOUT_TIME: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}


class BadSignature(Exception):
    """The proof is not one of this document by this key."""


class SlowToCheck(Exception):
    """The library is needed for this one, which may take its time."""


def check(document: str, proof: ProofKind, public_pem: str) -> Json:
    """The credential that the proof covers, all of it. BadSignature says why there is none."""
    return _check_jwt(document, public_pem) if proof == "jwt" else _check_data_integrity(document, public_pem)


def check_quickly(document: str, proof: ProofKind, public_pem: str) -> Json:
    """As `check`, where that takes less than milliseconds; else SlowToCheck."""
    if proof == "jwt" and len(document) <= data_integrity.SIZE_LIMIT:
        return _check_jwt(document, public_pem)
    credential = _found_right(document, public_pem) if proof == "data-integrity" else None
    if credential is None:
        raise SlowToCheck
    return credential


def _check_data_integrity(document: str, public_pem: str) -> Json:
    if credential := _found_right(document, public_pem):
        return credential
    try:
        OB3LdpVerifier(pubkey_pem=public_pem).verify(document)
    except OB3VerificationError as error:
        if not str(error).startswith(ABOUT_TIME):
            raise BadSignature(str(error)) from error
    return dict(json.loads(document))


def _found_right(document: str, public_pem: str) -> Json | None:
    """The credential, where it is found right without the library; that says what is wrong with others."""
    try:
        public, _ = read_public(public_pem)
    except ValueError:
        return None
    return data_integrity.check(document, public) if isinstance(public, Ed25519PublicKey) else None


def _check_jwt(document: str, public_pem: str) -> Json:
    try:
        public, algorithm = read_public(public_pem)
        claims = compact.check(document, public, algorithm) or jwt.decode(
            document, public, algorithms=[algorithm], options=WITHOUT_TIME
        )
        credential = vc.jwt_document(claims)
        expected = vc.jwt_claims(credential)
    except (jwt.InvalidTokenError, KeyError, ValueError, TypeError) as error:
        raise BadSignature(str(error)) from error
    if claims != expected:
        raise BadSignature("the registered claims contradict the credential")
    return credential


def check_made(token: str, alg: str, public_pem: str) -> None:
    """BadSignature unless the key has signed this token, which was made here, by this algorithm."""
    try:
        public, algorithm = read_public(public_pem)
    except ValueError as error:
        raise BadSignature(str(error)) from error
    if alg != algorithm or not compact.is_signed(token, public):
        raise BadSignature("Signature verification failed")


@lru_cache(maxsize=1024)
def read_public(public_pem: str) -> tuple[Ed25519PublicKey | RSAPublicKey, str]:
    """The key, and the one algorithm of JOSE that is taken from it; ValueError for any other kind."""
    public = load_pem_public_key(public_pem.encode())
    if isinstance(public, Ed25519PublicKey):
        return public, "EdDSA"
    if isinstance(public, RSAPublicKey):
        return public, "RS256"
    raise ValueError("the key is neither Ed25519 nor RSA")


def read(document: str, proof: ProofKind) -> Json:
    """The credential of a document, its proof not checked."""
    if proof == "jwt":
        claims = compact.read(document) or jwt.decode(document, options={"verify_signature": False})
        return vc.jwt_document(claims)
    return dict(json.loads(document))


def write(credential: Json) -> str:
    """A credential as JSON text, as it is sent."""
    return json.dumps(credential, ensure_ascii=False, separators=(",", ":"))


def _head(token: str) -> Mapping[str, Any]:
    """The header of a token, without a look at what it carries; empty if it cannot be read."""
    first = token.partition(".")[0]
    try:
        head = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    except (ValueError, RecursionError):
        return {}
    return head if isinstance(head, dict) else {}


def method_of(document: str, proof: ProofKind) -> str | None:
    """The verification method that a document names."""
    if proof == "jwt":
        return _text(_head(document).get("kid"))
    embedded = json.loads(document).get("proof")
    return _text(embedded.get("verificationMethod")) if isinstance(embedded, Mapping) else None


def suite_of(document: str, proof: ProofKind) -> str:
    """What a proof was made by: the cryptosuite of Data Integrity, or the algorithm that a token names."""
    if proof != "jwt":
        return CRYPTOSUITE
    return _text(_head(document).get("alg")) or UNREADABLE


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
