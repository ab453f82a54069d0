"""The VC-API: who may issue, what verifies, and what is told of what does not."""

import json
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from openbadgeslib.ob3 import did_key_from_pem
from openvc.proof.data_integrity import DataIntegrityProofSuite

from obms.badges import keys, proofs
from obms.badges.contexts import CONTEXTS, earlier
from obms.badges.signers import HeldKey
from obms.specs import vc, vcdm
from tests.badges.test_earlier import BADGES, PICTURED, changed, token
from tests.deployment import Deployment
from tests.web.conftest import Client

XSD_TIME = "http://www.w3.org/2001/XMLSchema#dateTime"
DATA_INTEGRITY = "https://w3id.org/security/data-integrity/v2"
V2 = "https://www.w3.org/ns/credentials/v2"
PRIVATE = Ed25519PrivateKey.generate()
HOLDER = did_key_from_pem(keys.public_pem(PRIVATE))
STRANGER = HeldKey(alg="EdDSA", kid=f"{HOLDER}#{HOLDER.removeprefix('did:key:')}", private=PRIVATE)


@pytest.fixture
def deployment(sqlite: Deployment) -> Deployment:
    """The kind of database does not matter here."""
    return sqlite


def credential(issuer: str, **more: object) -> dict[str, Any]:
    return {
        "@context": [V2],
        "type": ["VerifiableCredential"],
        "issuer": issuer,
        "credentialSubject": {"id": "did:example:subject"},
        **more,
    }


def signed(document: dict[str, Any], signer: HeldKey = STRANGER) -> dict[str, Any]:
    """By somebody whom this server does not know."""
    found: dict[str, Any] = json.loads(proofs.add_proof(document, signer, datetime.now(UTC), CONTEXTS))
    return found


def verdict(client: Client, held: object) -> dict[str, Any]:
    answer = client.post("/vc/credentials/verify", {"verifiableCredential": held}, key=None)
    told: dict[str, Any] = answer.json()
    assert answer.status_code == (200 if told["verified"] else 400), answer.text
    assert all(error["type"].startswith("https://") for error in told["errors"])
    return told


def complaint(client: Client, held: object) -> str:
    """What the one error says."""
    (error,) = verdict(client, held)["errors"]
    return str(error["detail"])


@pytest.mark.parametrize("options", [{}, {"format": "jwt_vc"}, {"alg": "EdDSA"}])
def test_what_is_issued_verifies_and_what_is_changed_does_not(
    client: Client, options: dict[str, str]
) -> None:
    issuer = client.add_issuer()
    answer = client.post("/vc/credentials/issue", {"credential": credential(issuer), "options": options})
    assert answer.status_code == 201, answer.text
    held = answer.json()["verifiableCredential"]
    told = verdict(client, held)
    assert (told["verified"], told["checks"]) == (True, ["form", "proof", "period", "status"])
    if options:
        assert held["type"] == "EnvelopedVerifiableCredential"
        token = held["id"].partition(",")[2]
        assert verdict(client, token)["verified"]
        assert not verdict(client, token[:-8] + "AAAAAAAA")["verified"]
    else:
        held["credentialSubject"]["id"] = "did:example:other"
        assert not verdict(client, held)["verified"]


def test_only_who_has_a_role_at_the_issuer_may_issue_and_only_for_an_issuer_of_ours(client: Client) -> None:
    path, issuer = "/vc/credentials/issue", client.add_issuer()
    assert client.post(path, {"credential": credential(issuer)}, key=None).status_code == 401
    assert client.post(path, {"credential": credential(issuer)}, key="wrong").status_code == 401
    for other in (HOLDER, "did:web:localhost%3A3000:issuers:", "https://elsewhere.example/issuers/1"):
        assert client.post(path, {"credential": credential(other)}).status_code in (400, 404)


def test_badges_of_ours_are_verified_with_their_status(client: Client) -> None:
    ids = [client.issue(proof="data-integrity"), client.issue(proof="jwt")]
    held: list[Any] = [
        client.get(f"/credentials/{ids[0]}").json(),
        client.get(f"/credentials/{ids[1]}?format=jwt").text,
    ]
    assert [verdict(client, each)["verified"] for each in held] == [True, True]
    client.post(f"/credentials/{ids[0]}/revoke")
    client.post(f"/credentials/{ids[1]}/suspend")
    assert [complaint(client, each) for each in held] == ["set for revocation", "set for suspension"]


def test_a_credential_of_anybody_verifies_by_a_key_that_needs_no_fetching(client: Client) -> None:
    good = signed(credential(HOLDER))
    assert verdict(client, good)["verified"]
    token = proofs.make_token(vc.jwt_claims(credential(HOLDER)), STRANGER)
    assert verdict(client, token)["verified"]
    impostor = signed(credential("did:example:somebody"))
    assert "not controlled by issuer" in complaint(client, impostor)
    method = "did:web:127.0.0.1#key"
    far = signed(credential("did:web:127.0.0.1"), HeldKey(alg="EdDSA", kid=method, private=PRIVATE))
    assert "not on the open web" in complaint(client, far)


def test_the_claims_of_a_token_may_add_a_period_and_contradict_nothing(client: Client) -> None:
    document = credential(HOLDER, id="urn:uuid:1", validUntil="2999-01-01T00:00:00Z")
    claims = vc.jwt_claims(document)
    assert verdict(client, proofs.make_token(claims, STRANGER))["verified"]
    for change in (
        *({"iss": "did:example:other"}, {"jti": "urn:uuid:2"}, {"exp": 32472144001}, {"exp": "soon"}),
        {"nbf": 10**30},
    ):
        assert not verdict(client, proofs.make_token({**claims, **change}, STRANGER))["verified"], change
    bare = vc.jwt_claims(credential(HOLDER))
    assert verdict(client, proofs.make_token({**bare, "iat": 1, "exp": 32472144000}, STRANGER))["verified"]
    over = proofs.make_token({**bare, "exp": 1}, STRANGER)
    assert complaint(client, over) == "validUntil: it has expired"


def test_our_name_on_a_stranger_s_signature_is_refused(client: Client) -> None:
    """By Data Integrity and as token, with the name of a key that we have."""
    issuer = client.add_issuer()
    own = client.get("/.well-known/jwks.json").json()["keys"]
    kid = {key["alg"]: key["kid"] for key in own}["EdDSA"]
    forger = HeldKey(alg="EdDSA", kid=kid, private=PRIVATE)
    assert not verdict(client, signed(credential(issuer), forger))["verified"]
    assert not verdict(client, proofs.make_token(vc.jwt_claims(credential(issuer)), forger))["verified"]


def test_the_key_of_one_issuer_does_not_speak_for_another(client: Client) -> None:
    one, two = client.add_issuer(), client.add_issuer()
    answer = client.post(
        "/vc/credentials/issue", {"credential": credential(one), "options": {"format": "vc+jwt"}}
    )
    token = answer.json()["verifiableCredential"]["id"].partition(",")[2]
    assert verdict(client, token)["verified"]
    site = client.app.state.server.site
    with client.app.state.server.database.engine.connect() as connection:
        key = keys.find_active(connection, one.rpartition(":")[2], keys.RSA)
    assert key is not None
    private = keys.unseal(site.require_seal(), key)
    signer = HeldKey(alg="RS256", kid=key.method(site.base_url), private=private)
    assert "another issuer" in complaint(client, proofs.make_token(vc.jwt_claims(credential(two)), signer))


def test_a_period_that_is_over_is_found_also_where_its_name_was_changed_by_a_context(client: Client) -> None:
    """The holder defines another name for validUntil: the signed graph is the same, and so is the proof."""
    inline = {"Badge": "https://example.org/#Badge"}
    document = credential(HOLDER, validUntil="2020-01-01T00:00:00Z", type=["VerifiableCredential", "Badge"])
    document["@context"].append(inline)
    old = signed(document)
    assert complaint(client, old) == "validUntil: it has expired"
    renamed = deepcopy(old)
    renamed["@context"][1]["myEnd"] = {
        "@id": "https://www.w3.org/2018/credentials#validUntil",
        "@type": "http://www.w3.org/2001/XMLSchema#dateTime",
    }
    renamed["myEnd"] = renamed.pop("validUntil")
    assert complaint(client, renamed) == "validUntil: it has expired"
    good = signed({**document, "validUntil": "2999-01-01T00:00:00Z"})
    told = verdict(client, good)
    assert (told["verified"], len(told["warnings"])) == (True, 1)


def test_a_status_and_an_issuer_are_read_from_the_graph_too(client: Client) -> None:
    id = client.issue(proof="data-integrity")
    entry = client.get(f"/credentials/{id}").json()["credentialStatus"]
    document = credential(HOLDER, credentialStatus=entry, type=["VerifiableCredential", "Badge"])
    document["@context"].append({"Badge": "https://example.org/#Badge"})
    held = signed(document)
    assert verdict(client, held)["verified"]
    client.post(f"/credentials/{id}/revoke")
    assert complaint(client, held) == "set for revocation"
    impostor = signed({**document, "issuer": "did:example:somebody"})
    assert complaint(client, impostor) == "the key is not the issuer's"


def presentation(*held: object) -> dict[str, Any]:
    document: dict[str, Any] = {"@context": [V2], "type": ["VerifiablePresentation"], "holder": HOLDER}
    if held:
        document["verifiableCredential"] = list(held)
    return DataIntegrityProofSuite().add_proof(
        document,
        signing_key=STRANGER,
        verification_method=STRANGER.kid,
        proof_purpose="authentication",
        challenge="c",
        domain="d",
        created=datetime.now(UTC),
        extra_contexts=CONTEXTS,
    )


def test_a_presentation_is_verified_with_all_that_is_in_it(client: Client) -> None:
    options = {"challenge": "c", "domain": "d"}

    def told(document: object, **more: str) -> Any:
        body = {"verifiablePresentation": document, "options": {**options, **more}}
        return client.post("/vc/presentations/verify", body, key=None).json()

    id = client.issue(proof="jwt")
    token = client.get(f"/credentials/{id}?format=jwt").text
    envelope = {
        "@context": V2,
        "type": "EnvelopedVerifiableCredential",
        "id": f"data:application/vc+jwt,{token}",
    }
    good = presentation(envelope, credential(HOLDER))
    assert told(good)["verified"]
    assert told(good)["warnings"] == ["verifiableCredential.1 has no proof"]
    assert not told(good, challenge="another")["verified"]
    assert not told(good, domain="another")["verified"]
    client.post(f"/credentials/{id}/revoke")
    assert [error["detail"] for error in told(good)["errors"]] == ["set for revocation"]
    changed = presentation()
    changed["holder"] = "did:example:other"
    assert not told(changed)["verified"]


@pytest.mark.parametrize(
    "held",
    [
        *({}, {"type": "VerifiableCredential"}, "a.b.c", "x", {"type": "EnvelopedVerifiableCredential"}),
        {"type": "EnvelopedVerifiableCredential", "@context": V2, "id": "data:,"},
        {**credential(HOLDER), "proof": {"type": "DataIntegrityProof"}},
        {**credential(HOLDER), "proof": [{"type": "x"}, {"type": "y"}]},
        {
            **credential(HOLDER),
            "@context": [V2, {"x": 1}],
            "proof": {"type": "x", "verificationMethod": HOLDER},
        },
        {**credential(HOLDER), "@context": [V2, "https://unknown.example/"], "proof": {"type": "x"}},
        {**credential(HOLDER), "validFrom": 17},
        {**credential(HOLDER), "validUntil": "2026-13-45T00:00:00Z"},
        {**credential(HOLDER), "credentialSubject": {"a": {"b": {"c": [[[[[[1]]]]]]}}}},
        {**credential(HOLDER), "\ud800".encode("utf-16", "surrogatepass").decode("utf-16", "replace"): 1},
    ],
)
def test_what_is_no_credential_is_told_and_ends_nothing(client: Client, held: object) -> None:
    assert not verdict(client, held)["verified"]


def test_what_a_context_does_not_say_is_not_signed(client: Client) -> None:
    issuer = client.add_issuer()
    inline = {"Badge": "https://example.org/#Badge"}
    for change in (
        {"more": 1},
        {"@context": [V2, inline], "more": 1},
        {"@context": [V2, inline], "type": ["VerifiableCredential", "Other"]},
        {"@context": [V2, inline], "credentialSubject": {"id": "did:example:1", "nothing": "x"}},
        {"@context": [V2, inline], "evidence": {"id": "relative", "type": "Badge"}},
        {"@context": [V2, "https://unknown.example/context"]},
        {"proof": {"type": "x"}},
    ):
        answer = client.post("/vc/credentials/issue", {"credential": credential(issuer, **change)})
        assert answer.status_code == 400, change
    named = {"@context": [V2, {**inline, "more": "https://example.org/#more"}], "more": 1}
    answer = client.post("/vc/credentials/issue", {"credential": credential(issuer, **named)})
    assert answer.status_code == 201, answer.text


def test_the_time_of_1_1_is_read_whatever_a_document_calls_it(client: Client) -> None:
    """Who passes it on may call the members otherwise, and the proof holds."""
    terms = {"until": {"@id": "https://www.w3.org/2018/credentials#expirationDate", "@type": XSD_TIME}}
    document = credential(HOLDER, issuanceDate="2026-01-01T00:00:00Z")
    for end, errors in (("2096-01-01T00:00:00Z", 0), ("2026-01-02T00:00:00Z", 1)):
        document |= {"@context": [vcdm.EARLIER, DATA_INTEGRITY, terms], "until": end}
        text = proofs.add_proof(document, STRANGER, datetime.now(UTC), earlier())
        told = verdict(client, json.loads(text))
        assert len(told["warnings"]) == 1
        assert [each["detail"] for each in told["errors"]] == ["expirationDate: it has expired"] * errors


def test_credentials_of_data_model_1_1_are_verified_and_not_issued(client: Client) -> None:
    """With their older proofs, and as tokens with the credential under `vc`."""
    for name in (PICTURED, "eddsa-2022, context.json", "eddsa-rdfc-2022, 3.0.1", "StatusList2021Entry"):
        told = verdict(client, BADGES[name])
        assert told["verified"], (name, told)
    assert told["warnings"] == ["the status https://elsewhere.example/list#5 was not looked up"]
    assert complaint(client, BADGES["expired"]) == "expirationDate: it has expired"
    later = changed(PICTURED, lambda it: it.update(expirationDate="2046-01-01T00:00:00Z"))
    assert "signature" in complaint(client, later)
    hidden = changed(PICTURED, lambda it: it.update(unknown="not signed"))
    assert "compacted form" in complaint(client, hidden)
    foreign = changed(PICTURED, lambda it: it["issuer"].update(id=HOLDER))
    assert complaint(client, foreign) == "the key is not the issuer's"
    assert complaint(client, changed(PICTURED, lambda it: it.pop("issuanceDate"))).startswith("issuanceDate")
    assert verdict(client, token())["verified"]
    assert complaint(client, token(exp=1767225601)) == "expirationDate: it has expired"
    within = {"expirationDate": "2026-02-01T00:00:00Z"}
    assert complaint(client, token(exp=4102444800, inside=within)) == "expirationDate: it has expired"
    unsigned = {name: value for name, value in BADGES[PICTURED].items() if name != "proof"}
    issuer = {"issuer": client.get(f"/issuers/{client.add_issuer()}/did.json").json()["id"]}
    answer = client.post("/vc/credentials/issue", {"credential": unsigned | issuer})
    assert (answer.status_code, "@context" in answer.text) == (400, True), answer.text
