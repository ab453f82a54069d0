"""Compact tokens as this server makes them, read without the library, which looks at each character.

`read` and `check` may say nothing (None), and then the library is asked: what is wrong with a token is
told by it alone.
"""

import json
import re
from binascii import a2b_base64
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from obms.specs import Json

MEMBERS = {"alg", "kid", "typ"}
# The other alphabet, and what a token leaves out.
FOREIGN = re.compile(rb"[+/=]")
STANDARD = bytes.maketrans(b"-_", b"+/")


class _Parts(NamedTuple):
    """What a token is made of; the first two parts are what is signed."""

    header: Json
    claims: Json
    signed: bytes
    signature: bytes


def read(token: str) -> Json | None:
    """What the token carries, its signature not checked."""
    parts = _parts(token)
    return parts.claims if parts else None


def check(token: str, public: Ed25519PublicKey | RSAPublicKey, algorithm: str) -> Json | None:
    """What the token carries, if the key has signed it by this algorithm."""
    parts = _parts(token)
    if parts is None or parts.header["alg"] != algorithm:
        return None
    return parts.claims if _is_right(parts.signature, parts.signed, public) else None


def is_signed(token: str, public: Ed25519PublicKey | RSAPublicKey) -> bool:
    """Whether the key has signed a token that was made here, so that its form need not be looked at."""
    signed, _, last = token.encode("ascii").rpartition(b".")
    return _is_right(_bytes(last), signed, public)


def _is_right(signature: bytes, signed: bytes, public: Ed25519PublicKey | RSAPublicKey) -> bool:
    try:
        if isinstance(public, RSAPublicKey):
            public.verify(signature, signed, PKCS1v15(), SHA256())
        else:
            public.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _parts(token: str) -> _Parts | None:
    try:
        signed, _, last = token.encode("ascii").rpartition(b".")
        first, _, second = signed.partition(b".")
        header, claims, signature = json.loads(_bytes(first)), json.loads(_bytes(second)), _bytes(last)
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        return None
    # A member that is not known may say that the token is to be read in another way.
    if header.keys() != MEMBERS or not all(isinstance(value, str) for value in header.values()):
        return None
    return _Parts(header, claims, signed, signature)


def _bytes(text: bytes) -> bytes:
    if FOREIGN.search(text):
        raise ValueError("it is no base64url without padding")
    return a2b_base64(text.translate(STANDARD) + b"=" * (-len(text) % 4), strict_mode=True)
