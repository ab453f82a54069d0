"""Documents with several proofs: sets, of which each stands alone, and chains, where one builds on others.

Data Integrity, sections 2.1.1, 2.1.2 and 4.5 (Verify Proof Sets and Chains).
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import jwt
from openbadgeslib.ob3.contexts import document_loader
from openvc.did.base import DidResolverRegistry
from openvc.multibase import MultibaseError, decode_multibase

from obms.badges.graphs import Contexts, find_key
from obms.badges.signatures import BadSignature
from obms.specs import Json
from obms.specs.vcdm import listed

LIMIT = 8
SUITE = "eddsa-rdfc-2022"
MEMBERS = {"id", "type", "cryptosuite", "created", "expires", "verificationMethod", "proofPurpose"}
MEMBERS |= {"domain", "challenge", "nonce", "previousProof", "proofValue"}


def makers(document: Json) -> set[str]:
    """The DIDs whose keys its proofs name."""
    return {str(proof.get("verificationMethod")).partition("#")[0] for proof in listed(document["proof"])}


def verify_chains(document: Json, resolver: DidResolverRegistry, contexts: Contexts) -> list[Json]:
    """The document with each of its proofs that stands alone, which are to be verified yet.

    BadSignature unless all others, which build on those, verify.
    """
    proofs = listed(document.get("proof"))
    if len(proofs) > LIMIT or not all(is_plain(proof) for proof in proofs):
        raise BadSignature(f"it has more than {LIMIT} proofs, or one that is none")
    alone = [proof for proof in proofs if not listed(proof.get("previousProof"))]
    known = list(alone)
    waiting = [(proof, _previous(proof, proofs)) for proof in proofs if proof not in alone]
    while waiting:
        ready = [each for each in waiting if all(before in known for before in each[1])]
        if not ready:
            raise BadSignature("its proofs build on each other in a circle")
        for proof, before in ready:
            _verify(document, proof, before, resolver, contexts)
        known += [proof for proof, _ in ready]
        waiting = [each for each in waiting if each not in ready]
    return [{**document, "proof": proof} for proof in alone]


def is_plain(proof: Any) -> bool:
    """Whether it is a proof with members that are known, none of which could be made to say more."""
    if not isinstance(proof, Mapping) or not set(proof) <= MEMBERS:
        return False
    before = listed(proof.get("previousProof", []))
    values = [value for name, value in proof.items() if name != "previousProof"]
    return all(isinstance(value, str) for value in (*values, *before))


def _previous(proof: Json, proofs: list[Json]) -> list[Json]:
    """The proofs that it builds on; each must be there once."""
    found: list[Json] = []
    for name in listed(proof["previousProof"]):
        named = [each for each in proofs if each.get("id") == name]
        if len(named) != 1:
            raise BadSignature(f"there is no one proof {name} for the next to build on")
        found += named
    return found


def _verify(
    document: Json, proof: Json, before: list[Json], resolver: DidResolverRegistry, contexts: Contexts
) -> None:
    """What is signed is the document with the proofs before it."""
    if (proof.get("type"), proof.get("cryptosuite")) != ("DataIntegrityProof", SUITE):
        raise BadSignature(f"a proof that builds on another is of {SUITE} here")
    if proof.get("proofPurpose") != "assertionMethod":
        raise BadSignature("the purpose of a proof is another one")
    method = str(proof.get("verificationMethod"))
    pem = find_key(resolver, method.partition("#")[0], method, "assertionMethod")
    config = {name: value for name, value in proof.items() if name != "proofValue"}
    config["@context"] = document["@context"]
    data = _hashed(config, contexts) + _hashed({**document, "proof": before}, contexts)
    _require_signature(pem, data, str(proof.get("proofValue")))


def _require_signature(pem: str, data: bytes, value: str) -> None:
    algorithm = jwt.get_algorithm_by_name("EdDSA")
    try:
        right = algorithm.verify(data, algorithm.prepare_key(pem), decode_multibase(value))
    except (jwt.InvalidKeyError, MultibaseError, TypeError, ValueError) as error:
        raise BadSignature(f"a proof cannot be read: {error}") from error
    if not right:
        raise BadSignature("a proof that builds on another does not verify")


def _hashed(document: Json, contexts: Contexts) -> bytes:
    from pyld import jsonld  # as in graphs

    options = {
        "algorithm": "URDNA2015",
        "format": "application/n-quads",
        "documentLoader": document_loader(contexts),
    }
    try:
        return hashlib.sha256(jsonld.normalize(document, options).encode()).digest()
    except (jsonld.JsonLdError, KeyError, TypeError, ValueError) as error:
        raise BadSignature(f"it is no JSON-LD: {error}"[:300]) from error


def is_after(time: object, now: datetime) -> bool:
    """Whether a time is one, has a zone and is yet to come."""
    try:
        return datetime.fromisoformat(str(time)) > now
    except (TypeError, ValueError):
        return False
