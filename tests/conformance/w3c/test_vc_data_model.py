"""The documents of the W3C's test suite of the data model, issued and verified over the VC-API as it does."""

from contextlib import suppress
from copy import deepcopy
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from openbadgeslib.ob3 import did_key_from_pem
from openbadgeslib.ob3.contexts import document_loader
from openvc.multibase import encode_multibase
from pyld import jsonld

from obms.badges import keys
from obms.badges.contexts import CONTEXTS
from tests.conformance.w3c.conftest import of_the_w3c
from tests.web.conftest import Client

DOCUMENTS = of_the_w3c("vc_data_model")["documents"]
CREDENTIALS = [name for name in DOCUMENTS if not name.startswith("presentation")]
PRESENTATIONS = [name for name in DOCUMENTS if name.startswith("presentation")]
# The suite fills in the times of this one itself.
TEMPLATES = {"credential-validUntil-validFrom-ok"}
# A credential that has a proof already is not signed once more.
SIGNED = {"credential-proof-ok"}
# Its period is over, or has not begun: issued, and not verified.
# In its envelope is a token of an issuer that is not there.
ENVELOPED = {"presentation-enveloped-vc-ok"}
OUT_OF_TIME = ("validuntil", "far-future")
PRIVATE = Ed25519PrivateKey.generate()
HOLDER = did_key_from_pem(keys.public_pem(PRIVATE))


def issued_by(document: dict[str, Any], issuer: str) -> dict[str, Any]:
    """As the suite does it: the issuer is filled in, unless it is what is wrong."""
    document = deepcopy(document)
    found = document.get("issuer", issuer)
    if isinstance(found, dict):
        found.setdefault("id", issuer)
    else:
        document["issuer"] = found
    return document


@pytest.mark.parametrize("name", [name for name in CREDENTIALS if "fail" in name])
def test_what_the_suite_wants_rejected_is(client: Client, issuer: str, name: str) -> None:
    body = {"credential": issued_by(DOCUMENTS[name], issuer)}
    answer = client.post("/vc/credentials/issue", body)
    assert (answer.status_code, answer.json()["error"]) == (400, "Validation error")


@pytest.mark.parametrize("options", [{}, {"format": "vc+jwt"}], ids=["data-integrity", "jwt"])
@pytest.mark.parametrize("name", [name for name in CREDENTIALS if "fail" not in name])
def test_what_the_suite_wants_issued_is_and_verifies(
    client: Client, issuer: str, name: str, options: dict[str, str]
) -> None:
    body = {"credential": issued_by(DOCUMENTS[name], issuer), "options": options}
    answer = client.post("/vc/credentials/issue", body)
    # The direction of a text is not part of the graph, so that a proof would not cover it.
    if name in TEMPLATES | SIGNED or (not options and "direction" in name):
        assert answer.status_code == 400
        return
    assert answer.status_code == 201, answer.text
    verdict = client.post("/vc/credentials/verify", answer.json(), key=None)
    assert verdict.json()["verified"] is (not any(word in name for word in OUT_OF_TIME)), verdict.text


@pytest.mark.parametrize("name", PRESENTATIONS)
def test_presentations_are_judged_as_the_suite_wants(client: Client, name: str) -> None:
    body = {
        "verifiablePresentation": presented(deepcopy(DOCUMENTS[name])),
        "options": {"challenge": "c", "domain": "d"},
    }
    answer = client.post("/vc/presentations/verify", body, key=None)
    good = "fail" not in name and name not in ENVELOPED
    assert (answer.json()["verified"], answer.status_code) == (good, 200 if good else 400), answer.text


def presented(document: dict[str, Any]) -> dict[str, Any]:
    """Signed by its holder, whatever is wrong with it; without a proof where that cannot be done."""
    proof = {
        "type": "DataIntegrityProof",
        "cryptosuite": "eddsa-rdfc-2022",
        "created": "2026-01-01T00:00:00Z",
        "verificationMethod": f"{HOLDER}#{HOLDER.removeprefix('did:key:')}",
        "proofPurpose": "authentication",
        "challenge": "c",
        "domain": "d",
    }
    with suppress(jsonld.JsonLdError, KeyError):
        hashes = [
            sha256(canonical(each)).digest()
            for each in (proof | {"@context": document["@context"]}, document)
        ]
        proof["proofValue"] = encode_multibase(PRIVATE.sign(b"".join(hashes)))
    return document | {"proof": proof}


def canonical(document: dict[str, Any]) -> bytes:
    loader = document_loader(CONTEXTS)
    options = {"algorithm": "URDNA2015", "format": "application/n-quads", "documentLoader": loader}
    return str(jsonld.normalize(document, options)).encode()
