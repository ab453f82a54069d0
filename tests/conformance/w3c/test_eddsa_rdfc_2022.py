"""The vectors of the W3C's eddsa-rdfc-2022: hashes, signatures, and our own signing and verifying."""

import hashlib
import json
from copy import deepcopy
from datetime import datetime
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from openbadgeslib.errors import LibOpenBadgesException
from openbadgeslib.ob3 import verify_data_integrity_proof
from openbadgeslib.ob3.contexts import document_loader
from openvc.multibase import decode_multibase
from pyld import jsonld

from obms.badges import keys, proofs
from obms.badges.contexts import CONTEXTS
from obms.badges.signers import HeldKey
from obms.specs.vcdm import credential_complaints
from tests.conformance.w3c.conftest import of_the_w3c

VECTORS = of_the_w3c("eddsa_rdfc_2022")
PAIR, ALUMNI = VECTORS["keyPair"], VECTORS["vectors"]["alumni"]
# Before the key itself stand two bytes that tell its kind.
PRIVATE = Ed25519PrivateKey.from_private_bytes(decode_multibase(PAIR["privateKeyMultibase"])[2:])
PUBLIC = Ed25519PublicKey.from_public_bytes(decode_multibase(PAIR["publicKeyMultibase"])[2:])


def hashed(document: dict[str, Any]) -> str:
    options = {
        "algorithm": "URDNA2015",
        "format": "application/n-quads",
        "documentLoader": document_loader(CONTEXTS),
    }
    return hashlib.sha256(jsonld.normalize(document, options).encode()).hexdigest()


def bare(signed: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in signed.items() if name != "proof"}


def test_the_key_pair_is_read() -> None:
    assert PRIVATE.public_key().public_bytes_raw() == PUBLIC.public_bytes_raw()


def test_the_canonical_forms_have_the_hashes_of_the_vector() -> None:
    assert hashed(bare(ALUMNI["signed"])) == ALUMNI["documentHash"]
    assert hashed(ALUMNI["proofConfig"]) == ALUMNI["proofHash"]


@pytest.mark.parametrize("name", VECTORS["vectors"])
def test_the_signature_of_a_vector_is_that_of_its_hashes(name: str) -> None:
    """The contexts of the second one are pinned nowhere: of it only what is signed is looked at."""
    vector = VECTORS["vectors"][name]
    combined = bytes.fromhex(vector["proofHash"] + vector["documentHash"])
    assert combined.hex() == vector["combinedHash"].replace("\n", "")
    signature = decode_multibase(vector["signed"]["proof"]["proofValue"])
    assert signature.hex() == vector["signatureHex"]
    PUBLIC.verify(signature, combined)
    with pytest.raises(InvalidSignature):
        PUBLIC.verify(signature, combined[::-1])


def test_signing_the_document_of_the_vector_gives_its_very_bytes() -> None:
    proof = ALUMNI["signed"]["proof"]
    signer = HeldKey(alg="EdDSA", kid=proof["verificationMethod"], private=PRIVATE)
    created = datetime.fromisoformat(proof["created"])
    signed = json.loads(proofs.add_proof(bare(ALUMNI["signed"]), signer, created, CONTEXTS))
    assert signed == ALUMNI["signed"]


def test_the_vector_verifies_and_a_change_anywhere_in_it_does_not() -> None:
    pem = keys.public_pem(PRIVATE)
    verify_data_integrity_proof(ALUMNI["signed"], pem, extra_contexts=CONTEXTS)
    assert list(credential_complaints(ALUMNI["signed"])) == []
    for member in ("id", "name", "description", "issuer", "validFrom"):
        changed = deepcopy(ALUMNI["signed"])
        changed[member] = changed[member].replace("e", "a", 1).replace("2023", "2024")
        with pytest.raises(LibOpenBadgesException):
            verify_data_integrity_proof(changed, pem, extra_contexts=CONTEXTS)
