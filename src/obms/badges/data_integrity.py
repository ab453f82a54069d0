"""Data Integrity proofs (`eddsa-rdfc-2022`) of the documents that this server signs, without JSON-LD.

Both functions may say nothing (None), and then the library is asked. So what they are not sure of costs
more time and nothing else, and why a proof is wrong is told by the library alone.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from openbadgeslib.ob3 import OpenBadgeCredential
from openvc.errors import OpenvcError
from openvc.multibase import b58btc_encode, decode_multibase

from obms.badges.canonical import canonize
from obms.specs import Json, iso

SIZE_LIMIT = 256 * 1024  # of the library, with some room for the proof
PROOF_SIZE = 1024
TYPE, SUITE, PURPOSE = "DataIntegrityProof", "eddsa-rdfc-2022", "assertionMethod"
MEMBERS = {"type", "cryptosuite", "created", "verificationMethod", "proofPurpose", "proofValue"}
CREDENTIAL_TYPES = {"VerifiableCredential", "OpenBadgeCredential"}


def check(document: str, public: Ed25519PublicKey) -> Json | None:
    """The credential, if the key has signed all of it; None if that cannot be said here."""
    if len(document) > SIZE_LIMIT:
        return None
    try:
        signed = json.loads(document)
    except (ValueError, RecursionError):
        return None
    if not isinstance(signed, dict) or not isinstance(proof := signed.get("proof"), dict):
        return None
    data = _signed_data({name: value for name, value in signed.items() if name != "proof"}, proof)
    if data is None or not _is_credential(signed) or not _is_ours(proof):
        return None
    try:
        public.verify(decode_multibase(proof["proofValue"]), data)
    except (InvalidSignature, OpenvcError, ValueError):
        return None
    return signed


def sign(document: Json, sign_bytes: Callable[[bytes], bytes], method: str, created: datetime) -> Json | None:
    """The document with a proof in it; None if the library is to make it, or to refuse to."""
    proof: Json = {
        "type": TYPE,
        "cryptosuite": SUITE,
        "created": iso(created),
        "verificationMethod": method,
        "proofPurpose": PURPOSE,
    }
    if "proof" in document or len(json.dumps(document)) > SIZE_LIMIT - PROOF_SIZE:
        return None
    data = _signed_data(document, proof)
    if data is None:
        return None
    return {**document, "proof": {**proof, "proofValue": f"z{b58btc_encode(sign_bytes(data))}"}}


def _signed_data(document: Json, proof: Json) -> bytes | None:
    """What is signed: the hash of the proof's own members, then that of the document."""
    options = {name: value for name, value in proof.items() if name != "proofValue"}
    texts = [canonize(part) for part in ({**options, "@context": document.get("@context")}, document)]
    return b"".join(sha256(text.encode()).digest() for text in texts if text) if all(texts) else None


def _is_credential(document: Json) -> bool:
    """Whether the library reads a credential of Open Badges in it."""
    types = document.get("type")
    if not isinstance(types, list) or not set(types) >= CREDENTIAL_TYPES:
        return False
    places = document.get("credentialStatus", [])
    # A place in a status list that is only named is one that nobody would look at.
    if not all(isinstance(place, dict) for place in (places if isinstance(places, list) else [places])):
        return False
    try:
        OpenBadgeCredential.from_vc_document(document)
    except (KeyError, ValueError, TypeError):
        return False
    return True


def _is_ours(proof: Json) -> bool:
    """Whether it is a proof such as we make, no member more and none less."""
    if proof.keys() != MEMBERS or (proof["type"], proof["cryptosuite"]) != (TYPE, SUITE):
        return False
    try:
        created = datetime.fromisoformat(str(proof["created"]))
    except ValueError:
        return False
    return created.tzinfo == UTC and all(isinstance(value, str) for value in proof.values())
