"""Presentations in envelopes, by the W3C's data model 2.0 and by its Securing with JOSE and COSE."""

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from openvc.multibase import encode_multibase

from tests.conformance.w3c.test_proof_sets import ISSUER, OTHER, V2, did, document
from tests.web.conftest import Client

HOLDER = did(ISSUER)
ASKED = {"challenge": "c", "domain": "d"}
CLAIMS: dict[str, Any] = {"@context": [V2], "type": ["VerifiablePresentation"], "holder": HOLDER}
BOUND = {**CLAIMS, "iss": HOLDER, "aud": ["d"], "nonce": "c"}


def kid(name: str) -> str:
    return f"{name}#{name.removeprefix('did:key:')}"


def token(claims: dict[str, Any], key: Any = ISSUER, name: str = HOLDER, typ: str = "vp+jwt") -> str:
    algorithm = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "EdDSA"
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid(name), "typ": typ})


def envelope(inside: str, **more: object) -> dict[str, Any]:
    id = f"data:application/vp+jwt,{inside}"
    return {"@context": V2, "type": "EnvelopedVerifiablePresentation", "id": id, **more}


def told(client: Client, held: dict[str, Any], **options: str) -> Any:
    body = {"verifiablePresentation": held, "options": {**ASKED, **options}}
    answer = client.post("/vc/presentations/verify", body, key=None)
    assert answer.status_code == (200 if answer.json()["verified"] else 400), answer.text
    return answer.json()


def test_an_enveloped_presentation_is_verified_for_its_challenge_and_domain(client: Client) -> None:
    held = envelope(token(BOUND))
    assert told(client, held)["verified"]
    assert told(client, held, challenge="other")["errors"][0]["detail"] == "the challenge is another one"
    assert told(client, held, domain="other")["errors"][0]["detail"] == "the domain is another one"
    older = {"iss": HOLDER, "aud": "d", "nonce": "c", "vp": CLAIMS}
    assert told(client, envelope(token(older, typ="JWT")))["verified"]


@pytest.mark.parametrize(
    "change", [{"@context": []}, {"@context": ["https://www.w3.org/ns/credentials/examples/v2"]}, {"id": "x"}]
)
def test_an_envelope_is_of_the_form_of_the_standard(client: Client, change: dict[str, object]) -> None:
    good = envelope(token(BOUND))
    assert not told(client, {**good, **change})["verified"]
    assert not told(client, {**good, "type": ["VerifiablePresentation"]})["verified"]


@pytest.mark.parametrize(
    "claims",
    [
        {**BOUND, "iss": did(OTHER)},
        {**BOUND, "holder": did(OTHER)},
        {**BOUND, "exp": 1},
        {**BOUND, "nbf": 32472144000},
        {**BOUND, "nbf": "soon"},
        {**BOUND, "exp": 10**30},
        {**BOUND, "type": ["Other"]},
        {**BOUND, "vp": "text"},
        {**BOUND, "verifiableCredential": [{"type": "VerifiableCredential"}]},
    ],
)
def test_a_token_that_is_not_the_holder_s_or_not_of_now_is_refused(
    client: Client, claims: dict[str, Any]
) -> None:
    assert not told(client, envelope(token(claims)))["verified"]


def test_only_the_holder_s_own_key_signs(client: Client) -> None:
    assert not told(client, envelope(token(BOUND, OTHER)))["verified"]
    assert not told(client, envelope(token(BOUND, OTHER, did(OTHER))))["verified"]
    assert not told(client, envelope("a.b.c"))["verified"]
    nameless = {name: value for name, value in BOUND.items() if name not in ("iss", "holder")}
    assert told(client, envelope(token(nameless)))["verified"]


def test_what_is_in_it_is_verified_too_whichever_key_has_signed_it(client: Client) -> None:
    """A credential by ES256, which many wallets' issuers use, and badges of ours."""
    key = ec.generate_private_key(ec.SECP256R1())
    raw = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    name = "did:key:" + encode_multibase(b"\x80\x24" + raw)
    credential = {
        "@context": [V2],
        "type": ["VerifiableCredential"],
        "issuer": name,
        "credentialSubject": {"id": HOLDER},
    }
    foreign = {
        "@context": V2,
        "type": "EnvelopedVerifiableCredential",
        "id": "data:application/vc+jwt," + token(credential, key, name, "vc+jwt"),
    }
    id = client.issue(proof="jwt")
    ours = {**foreign, "id": "data:application/vc+jwt," + client.get(f"/credentials/{id}?format=jwt").text}
    held = envelope(token({**BOUND, "verifiableCredential": [foreign, ours]}))
    assert told(client, held)["verified"]
    client.post(f"/credentials/{id}/revoke")
    assert [each["detail"] for each in told(client, held)["errors"]] == ["set for revocation"]


def test_a_malformed_status_in_a_token_is_told_and_ends_nothing(client: Client) -> None:
    claims = {**document(credentialStatus=["x"]), "issuer": HOLDER}
    answer = client.post("/vc/credentials/verify", {"verifiableCredential": token(claims)}, key=None)
    assert (answer.status_code, answer.json()["verified"]) == (400, False)
