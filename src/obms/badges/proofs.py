"""Putting proofs on documents: Data Integrity inside them, or a token around them."""

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from openbadgeslib.errors import LibOpenBadgesException
from openbadgeslib.ob3 import add_data_integrity_proof
from openbadgeslib.ob3.contexts import bundled_contexts
from openvc.errors import OpenvcError
from openvc.proof.data_integrity import DataIntegrityProofSuite

from obms.badges import Signer, data_integrity
from obms.badges.keys import private_pem
from obms.badges.signers import HeldKey
from obms.specs import Json, vc

# The media types of tokens, as `typ` leaves out their `application/`.
VC_JWT, JWS = "vc+jwt", "JWT"
Contexts = Mapping[str, dict[str, Any]]
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class CannotBeSigned(Exception):
    """What the document says is not all of it said by JSON-LD, so that a proof would not cover it."""


def add_proof(document: Json, signer: Signer, created: datetime, contexts: Contexts | None = None) -> str:
    """The document with an `eddsa-rdfc-2022` proof in it, as the text that is kept and given out.

    `contexts` are known beside the pinned ones of the library; none is ever fetched.
    """
    if signer.alg == "EdDSA" and (signed := data_integrity.sign(document, signer.sign, signer.kid, created)):
        return _encode(signed)
    try:
        if isinstance(signer, HeldKey):
            # Five times as fast as the way for a private part that is not here.
            signed = add_data_integrity_proof(
                document,
                private_pem(signer.private),
                signer.kid,
                created=created,
                extra_contexts=contexts,
            )
        else:
            signed = DataIntegrityProofSuite().add_proof(
                document,
                signing_key=signer,
                verification_method=signer.kid,
                created=created,
                extra_contexts={**bundled_contexts(), **(contexts or {})},
            )
    except (LibOpenBadgesException, OpenvcError) as error:
        raise CannotBeSigned(str(error)) from error
    return _encode(signed)


def make_token(payload: Json, signer: Signer, typ: str = VC_JWT) -> str:
    """The payload as a compact JWS."""
    return _token(_encode(payload), signer, typ)


def make_credential_token(credential: Json, signer: Signer) -> tuple[str, str]:
    """A credential as a VC-JWT, and as the JSON text that stands in it."""
    text = _encode(credential)
    claims = vc.registered_claims(credential)
    return _token(f"{text[:-1]},{_encode(claims)[1:]}" if claims else text, signer, VC_JWT), text


def _token(payload: str, signer: Signer, typ: str) -> str:
    signed = _head(signer.alg, signer.kid, typ) + b"." + _bare(payload.encode())
    return (signed + b"." + _bare(signer.sign(signed))).decode()


@lru_cache(maxsize=1024)
def _head(alg: str, kid: str, typ: str) -> bytes:
    return _bare(_encode({"alg": alg, "kid": kid, "typ": typ}).encode())


def _bare(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
