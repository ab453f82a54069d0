"""Badges as tokens over HTTP: VC-JWT with RS256 or EdDSA, and signed badges of 2.0."""

from typing import Any

import jwt
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from obms.databases import writing
from obms.schema import signing_keys
from tests.deployment import Deployment
from tests.web.conftest import Client, order


@pytest.fixture
def deployment(sqlite: Deployment) -> Deployment:
    """The kind of database does not matter here."""
    return sqlite


def path_of(url: object) -> str:
    return "/" + str(url).split("/", 3)[3]


def retire_keys(deployment: Deployment, algorithm: str) -> None:
    """An issuer of an older version has no RSA key at all; for a token that is the same."""
    with writing(deployment.database.engine) as connection:
        of_it = signing_keys.c.algorithm == algorithm
        connection.execute(sa.update(signing_keys).where(of_it).values(retired_at=signing_keys.c.created_at))


@pytest.mark.parametrize(("alg", "expected"), [(None, "RS256"), ("RS256", "RS256"), ("EdDSA", "EdDSA")])
def test_a_vc_jwt_is_signed_as_asked_and_by_rsa_if_not(
    client: Client, alg: str | None, expected: str
) -> None:
    more = {"alg": alg} if alg else {}
    answer = client.post("/credentials?format=jwt", order(client.add_achievement(), **more))
    assert answer.headers["content-type"].startswith("application/vc+jwt")
    header = jwt.get_unverified_header(answer.text)
    assert (header["alg"], header["typ"]) == (expected, "vc+jwt")
    assert header["kid"].startswith("did:web:")
    verdict = client.get(path_of(answer.headers["location"]) + "/verify", key=None).json()
    assert (verdict["isValid"], verdict["cryptosuite"]) == (True, expected)
    assert {check["name"] for check in verdict["checks"]} == {
        *("key", "signature", "content", "status", "revocation", "suspension", "expiry", "start"),
    }


def test_an_algorithm_that_is_not_known_is_refused(client: Client) -> None:
    answer = client.post("/credentials", order(client.add_achievement(), alg="none"))
    assert (answer.status_code, list(answer.json()["details"])) == (400, ["alg"])


@pytest.mark.parametrize("expected", ["RS256", "EdDSA"])
def test_a_badge_of_data_integrity_is_a_token_on_request_and_no_key_is_made_for_that(
    client: Client, deployment: Deployment, expected: str
) -> None:
    id = client.issue(proof="data-integrity")
    if expected == "EdDSA":
        retire_keys(deployment, "RSA")
    before = client.get("/public-keys").json()
    answers = [
        client.get(f"/credentials/{id}", key=None, headers={"Accept": "application/vc+jwt"}),
        client.get(f"/credentials/{id}?format=jwt", key=None),
    ]
    assert answers[0].text == answers[1].text
    keys = {key["kid"]: key for key in client.get("/.well-known/jwks.json").json()["keys"]}
    token = answers[0].text
    claims = jwt.decode(token, jwt.PyJWK(keys[jwt.get_unverified_header(token)["kid"]]))
    assert claims["id"].endswith(id)
    assert jwt.get_unverified_header(token)["alg"] == expected
    assert client.get("/public-keys").json() == before
    client.post(f"/credentials/{id}/revoke")
    assert client.get(f"/credentials/{id}?format=jwt").status_code == 410


def test_a_token_that_no_key_can_sign_is_refused_to_who_only_reads(
    client: Client, deployment: Deployment
) -> None:
    id = client.issue(proof="data-integrity")
    retire_keys(deployment, "RSA")
    answers = [client.get(f"/v2/assertions/{id}?format=jws", key=None)]
    retire_keys(deployment, "Ed25519")
    answers.append(client.get(f"/credentials/{id}?format=jwt", key=None))
    assert [answer.status_code for answer in answers] == [409, 409]
    assert all("obms keys rotate" in answer.json()["detail"] for answer in answers)
    assert len(client.get("/public-keys").json()) == 2


def test_a_signed_badge_of_2_0_leads_to_its_key_its_issuer_and_the_list_of_what_is_revoked(
    client: Client,
) -> None:
    id = client.issue(proof="data-integrity")
    answer = client.get(f"/v2/assertions/{id}?format=jws", key=None)
    assert answer.headers["content-type"] == "application/jose"
    assertion: dict[str, Any] = jwt.decode(answer.text, options={"verify_signature": False})
    assert assertion["id"] == f"urn:uuid:{id}"
    assert assertion["verification"]["type"] == "SignedBadge"
    key = client.get(path_of(assertion["verification"]["creator"]), key=None).json()
    assert key["type"] == "CryptographicKey"
    assert key["id"] == assertion["verification"]["creator"]
    public = load_pem_public_key(key["publicKeyPem"].encode())
    assert jwt.decode(answer.text, public, algorithms=["RS256"]) == assertion  # type: ignore[arg-type]
    badge = client.get(path_of(assertion["badge"]), key=None).json()
    issuer = client.get(path_of(badge["issuer"]), key=None).json()
    assert issuer["publicKey"] == key["id"]
    assert key["owner"] == issuer["id"]
    revoked = client.get(path_of(issuer["revocationList"]), key=None).json()
    assert (revoked["id"], revoked["revokedAssertions"]) == (issuer["revocationList"], [])
    client.post(f"/credentials/{id}/revoke", {"reason": "Irrtum"})
    revoked = client.get(path_of(issuer["revocationList"]), key=None).json()
    hosted = client.get(f"/v2/assertions/{id}", key=None).json()["id"]
    assert revoked["revokedAssertions"] == [
        {"id": each, "revocationReason": "Irrtum"} for each in (f"urn:uuid:{id}", hosted)
    ]
    assert client.get(f"/v2/assertions/{id}?format=jws").status_code == 410


def test_keys_and_lists_that_are_not_there_are_a_404(client: Client) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    for path in (f"/v2/keys/{unknown}", f"/v2/issuers/{unknown}/revocations", f"/issuers/{unknown}/did.json"):
        assert client.get(path, key=None).status_code == 404
