"""Badges over HTTP: created, listed, issued, read in both standards, revoked."""

import json
from typing import Any

import pytest
from openbadgeslib.ob3 import OB3Verifier
from openbadgeslib.ob3.did import pem_for_kid

from tests.web.conftest import ISSUER, Client, order


def test_an_issuer_is_read_back_by_each_form_of_its_id(client: Client) -> None:
    did = client.add_issuer()
    bare = did.rpartition(":")[2]
    for path in (f"/issuers/{bare}", f"/issuers/urn:uuid:{bare}", f"/v3/issuers/{bare}"):
        answer = client.get(path, key=None)
        assert answer.status_code == 200
        assert answer.json()["id"] == did
        assert answer.json()["name"] == ISSUER["name"]


def test_lists_are_paged_and_say_where_the_other_pages_are(client: Client) -> None:
    issuer = client.add_issuer()
    ids = [client.add_achievement(issuer, name=f"n{number}") for number in range(5)]
    page = client.get("/achievements?limit=2&offset=2")
    assert [each["id"] for each in page.json()] == ids[2:4]
    assert page.headers["X-Total-Count"] == "5"
    assert '</achievements?limit=2&offset=4>; rel="next"' in page.headers["Link"]
    assert '</achievements?limit=2&offset=0>; rel="prev"' in page.headers["Link"]
    assert client.get("/achievements?limit=0").status_code == 400
    assert client.get("/achievements?offset=99999999999").status_code == 400
    of_issuer = client.get(f"/issuers/{issuer.rpartition(':')[2]}/achievements")
    assert len(of_issuer.json()) == 5


@pytest.mark.parametrize("proof", ["jwt", "data-integrity"])
def test_a_badge_is_issued_read_and_verified(client: Client, proof: str) -> None:
    id = client.issue(proof=proof, evidence=["https://work.example.org/1", {"narrative": "ليل"}])
    document = client.get(f"/credentials/{id}", key=None).json()
    assert document["type"] == ["VerifiableCredential", "OpenBadgeCredential"]
    assert document["credentialSubject"]["achievement"]["tag"] == ["a", "é"]
    assert "zoë@" not in json.dumps(document, ensure_ascii=False)
    assert document["credentialStatus"]["statusPurpose"] == "revocation"
    verdict = client.get(f"/credentials/{id}/verify", key=None).json()
    assert (verdict["isValid"], verdict["errorCode"]) == (True, None)


def test_a_token_verifies_by_the_did_document_that_it_names(client: Client) -> None:
    id = client.issue()
    by_header = client.get(f"/credentials/{id}", headers={"Accept": "application/vc+jwt"})
    assert by_header.headers["content-type"].startswith("application/vc+jwt")
    assert by_header.text == client.get(f"/credentials/{id}?format=jwt").text
    issuer = client.get(f"/credentials/{id}").json()["issuer"]["id"]
    path = f"/issuers/{issuer.rpartition(':')[2]}/did.json"
    document = client.get(path, key=None).json()
    pem = pem_for_kid(document, issuer, document["verificationMethod"][0]["id"])
    assert str(OB3Verifier(pem).verify(by_header.text).id).endswith(id)


def test_the_same_badge_is_a_hosted_assertion_of_2_0(client: Client) -> None:
    id = client.issue(expires="2046-01-01T00:00:00+01:00")
    assertion = client.get(f"/v2/assertions/{id}", key=None).json()
    assert assertion["id"].endswith(f"/v2/assertions/{id}")
    assert assertion["verification"] == {"type": "HostedBadge"}
    assert assertion["expires"] == "2045-12-31T23:00:00Z"
    badge = client.get(_path(assertion["badge"])).json()
    assert badge["type"] == "BadgeClass"
    assert client.get(_path(badge["issuer"])).json()["type"] == "Issuer"
    assert client.get(f"/v2/credentials/{id}").json() == assertion


def test_a_revoked_badge_is_gone_in_both_standards(client: Client) -> None:
    id = client.issue()
    answer = client.post(f"/credentials/{id}/revoke", {"reason": "Irrtum"})
    assert (answer.status_code, answer.json()["status"]) == (200, "revoked")
    gone = client.get(f"/credentials/{id}")
    assert gone.status_code == 410
    assert gone.json()["code"] == "CREDENTIAL_REVOKED"
    assert gone.json()["details"] == {"id": id, "revocationReason": "Irrtum"}
    gone = client.get(f"/v2/assertions/{id}")
    assert gone.status_code == 410
    assert (gone.json()["code"], gone.json()["revoked"]) == ("ASSERTION_REVOKED", True)
    verdict = client.get(f"/credentials/{id}/verify").json()
    assert (verdict["isValid"], verdict["isRevoked"], verdict["hasValidSignature"]) == (False, True, True)


def test_a_suspended_badge_is_valid_again_when_it_is_lifted(client: Client) -> None:
    id = client.issue()
    assert client.post(f"/credentials/{id}/suspend").json()["status"] == "suspended"
    assert client.get(f"/credentials/{id}/verify").json()["errorCode"] == "CREDENTIAL_SUSPENDED"
    assert client.post(f"/credentials/{id}/unsuspend").json()["status"] == "active"
    assert client.get(f"/credentials/{id}/verify").json()["isValid"]
    client.post(f"/credentials/{id}/revoke")
    assert client.post(f"/credentials/{id}/suspend").status_code == 409


def test_a_deleted_badge_is_gone_and_its_bit_is_set(client: Client) -> None:
    id = client.issue()
    assert client.ask("DELETE", f"/credentials/{id}").status_code == 204
    assert client.get(f"/credentials/{id}").status_code == 410
    assert client.get(f"/credentials/{id}/verify").json()["isRevoked"]
    assert client.ask("DELETE", f"/credentials/{id}").status_code == 404
    assert client.get("/credentials").headers["X-Total-Count"] == "0"


def test_every_status_list_is_served_signed_under_its_own_id(client: Client) -> None:
    client.issue()
    lists = client.get("/status-lists", key=None).json()
    assert {each["purpose"] for each in lists} == {"revocation", "suspension"}
    for each in lists:
        served = client.get(_path(each["id"]), key=None).json()
        assert served["id"] == each["id"]
        assert served["proof"]["cryptosuite"] == "eddsa-rdfc-2022"


def test_the_keys_of_all_issuers_are_published(client: Client) -> None:
    client.add_issuer()
    client.add_issuer()
    assert len(client.get("/.well-known/jwks.json", key=None).json()["keys"]) == 4
    assert len(client.get("/.well-known/did.json", key=None).json()["verificationMethod"]) == 4
    assert len(client.get("/public-keys", key=None).json()) == 4


def test_every_route_is_in_the_openapi_document_under_an_id_of_its_own(client: Client) -> None:
    paths: dict[str, dict[str, Any]] = client.get("/openapi.json").json()["paths"]
    ids = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(ids) == len(set(ids))
    assert "/v3/credentials/{credential_id}/verify" in paths


def test_the_front_is_json_for_programs_and_a_page_for_people(client: Client) -> None:
    assert client.get("/", key=None).json()["name"] == "openbadges-modular-server"
    page = client.get("/", key=None, headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "newest proven backup" in page.text


def test_a_badge_of_an_unknown_achievement_is_refused(client: Client) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    assert client.post("/credentials", order(unknown)).status_code == 404
    assert client.post("/credentials", order("https://elsewhere.example/achievements/1")).status_code == 400


def _path(url: str) -> str:
    return "/" + url.split("/", 3)[3]
