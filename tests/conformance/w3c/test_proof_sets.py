"""Several proofs on one document: Data Integrity, sections 2.1.1 (sets), 2.1.2 (chains) and 4.5 (verifying).

The proofs are made here by the text of the standard, and not by what is tried.
"""

import base64
import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from openbadgeslib.ob3 import did_key_from_pem
from openbadgeslib.ob3.contexts import document_loader
from openvc.multibase import encode_multibase
from pyld import jsonld

from obms.badges import keys
from obms.badges.contexts import CONTEXTS
from tests.web.conftest import Client

V2 = "https://www.w3.org/ns/credentials/v2"
ISSUER, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
FIRST = "urn:uuid:26329423-bec9-4b2e-88cb-a7c7d9dc4544"
INLINE = {"Alumni": "https://example.org/#Alumni"}


def did(key: Ed25519PrivateKey) -> str:
    return did_key_from_pem(keys.public_pem(key))


def hashed(document: dict[str, Any]) -> bytes:
    options = {
        "algorithm": "URDNA2015",
        "format": "application/n-quads",
        "documentLoader": document_loader(CONTEXTS),
    }
    return hashlib.sha256(jsonld.normalize(document, options).encode()).digest()


def document(*context: object, **more: object) -> dict[str, Any]:
    return {
        "@context": [V2, *context],
        "type": ["VerifiableCredential"],
        "issuer": did(ISSUER),
        "credentialSubject": {"id": "did:example:1"},
        **more,
    }


def proof(
    of: dict[str, Any], key: Ed25519PrivateKey, *before: dict[str, Any], **more: object
) -> dict[str, Any]:
    """A proof on a document, with the proofs that it builds on in it."""
    made = {
        "type": "DataIntegrityProof",
        "cryptosuite": "eddsa-rdfc-2022",
        "created": "2026-11-23T00:00:00Z",
        "verificationMethod": f"{did(key)}#{did(key).removeprefix('did:key:')}",
        "proofPurpose": "assertionMethod",
        **more,
    }
    inside = {**of, "proof": list(before)} if before else of
    data = hashed({**made, "@context": of["@context"]}) + hashed(inside)
    return {**made, "proofValue": encode_multibase(key.sign(data))}


def is_verified(client: Client, held: dict[str, Any]) -> bool:
    answer = client.post("/vc/credentials/verify", {"verifiableCredential": held}, key=None)
    told: dict[str, Any] = answer.json()
    assert answer.status_code == (200 if told["verified"] else 400), answer.text
    return bool(told["verified"])


@pytest.mark.parametrize("context", [(), (INLINE,)], ids=["known terms", "terms of its own"])
def test_all_proofs_of_a_set_must_verify_and_one_must_be_the_issuer_s(
    client: Client, context: tuple[object, ...]
) -> None:
    plain = document(*context)
    own, foreign = proof(plain, ISSUER), proof(plain, OTHER)
    assert is_verified(client, {**plain, "proof": [own, foreign]})
    assert is_verified(client, {**plain, "proof": [own, own]})
    assert not is_verified(client, {**plain, "proof": [foreign, foreign]})
    assert not is_verified(client, {**plain, "proof": [own, {**foreign, "proofValue": own["proofValue"]}]})
    assert not is_verified(client, {**plain, "name": "changed", "proof": [own, foreign]})


@pytest.mark.parametrize("context", [(), (INLINE,)], ids=["known terms", "terms of its own"])
def test_a_proof_of_a_chain_covers_those_before_it(client: Client, context: tuple[object, ...]) -> None:
    plain = document(*context)
    first = proof(plain, OTHER, id=FIRST)
    for name in (FIRST, [FIRST]):
        last = proof(plain, ISSUER, first, previousProof=name)
        assert is_verified(client, {**plain, "proof": [last, first]})
    swapped = proof(plain, OTHER, id=FIRST, created="2026-11-24T00:00:00Z")
    assert not is_verified(client, {**plain, "proof": [swapped, last]})
    unbound = proof(plain, ISSUER, previousProof=FIRST)
    assert not is_verified(client, {**plain, "proof": [first, unbound]})


@pytest.mark.parametrize(
    "named", ["urn:uuid:missing", ["urn:uuid:missing"], 456321, [FIRST, 1], {"id": FIRST}, [[FIRST]]]
)
def test_a_previous_proof_that_is_not_there_once_is_an_error(client: Client, named: object) -> None:
    plain = document()
    first = proof(plain, ISSUER, id=FIRST)
    last = {**proof(plain, ISSUER, first, previousProof=FIRST), "previousProof": named}
    assert not is_verified(client, {**plain, "proof": [first, last]})


def test_proofs_that_build_on_each_other_or_are_too_many_end_in_an_error(client: Client) -> None:
    plain = document()
    one = proof(plain, ISSUER, id="urn:1", previousProof="urn:2")
    two = proof(plain, ISSUER, id="urn:2", previousProof="urn:1")
    assert not is_verified(client, {**plain, "proof": [one, two]})
    own = proof(plain, ISSUER)
    assert is_verified(client, {**plain, "proof": [own] * 8})
    assert not is_verified(client, {**plain, "proof": [own] * 9})
    assert not is_verified(client, {**plain, "proof": [own, {**own, "more": {"a": 1}}]})
    assert not is_verified(client, {**plain, "proof": [own, "text"]})


@pytest.mark.parametrize(
    "change",
    [
        {"cryptosuite": "ecdsa-rdfc-2019"},
        {"proofPurpose": "authentication"},
        {"verificationMethod": "did:example:1#key"},
        {"proofValue": "u" + base64.urlsafe_b64encode(b"x" * 64).decode()},
        {"proofValue": "z111"},
    ],
)
def test_a_proof_on_others_is_of_the_same_suite_and_for_the_same_purpose(
    client: Client, change: dict[str, str]
) -> None:
    plain = document()
    first = proof(plain, ISSUER, id=FIRST)
    last = proof(plain, ISSUER, first, previousProof=FIRST)
    assert is_verified(client, {**plain, "proof": [first, last]})
    assert not is_verified(client, {**plain, "proof": [first, {**last, **change}]})


@pytest.mark.parametrize("context", [(), (INLINE,)], ids=["known terms", "terms of its own"])
def test_a_proof_is_good_until_it_expires(client: Client, context: tuple[object, ...]) -> None:
    """Section 2.1: `expires` of a proof is an end of its own."""
    plain = document(*context)
    assert is_verified(client, {**plain, "proof": proof(plain, ISSUER, expires="2999-01-01T00:00:00Z")})
    over = proof(plain, ISSUER, expires="2020-01-01T00:00:00Z")
    assert not is_verified(client, {**plain, "proof": over})
    assert not is_verified(client, {**plain, "proof": [proof(plain, ISSUER), over]})


def test_the_end_of_a_proof_cannot_be_renamed_by_a_context(client: Client) -> None:
    end = {
        "@id": "https://w3id.org/security#expiration",
        "@type": "http://www.w3.org/2001/XMLSchema#dateTime",
    }
    plain = document({**INLINE, "myEnd": end})
    over = proof(plain, ISSUER, expires="2020-01-01T00:00:00Z")
    over["myEnd"] = over.pop("expires")
    assert not is_verified(client, {**plain, "proof": over})
    assert not is_verified(client, {**plain, "proof": [over, proof(plain, ISSUER)]})
