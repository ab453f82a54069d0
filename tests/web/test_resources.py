"""Every resource in both standards: made, read, changed and deleted, each field kept and given back."""

import pytest

from tests.web.conftest import ISSUER, Client, order

FORMS = pytest.mark.parametrize("prefix", ["", "/v3", "/v2"])
OTHER = "https://other.example.org/achievements/1"
KEY = {"type": "CryptographicKey", "id": "https://school.example.org/key", "publicKeyPem": "-----BEGIN"}
WHOLE = {
    "name": "データ分析",
    "description": "表計算と統計 📊",
    "criteria": {"id": "https://school.example.org/criteria", "narrative": "Bestehen"},
    "image": {"id": "https://school.example.org/badge.png", "type": "Image", "caption": "Ein Bild"},
    "tags": ["a", "é"],
    "alignment": [{"targetName": "ESCO", "targetUrl": "https://esco.example.org/1", "targetCode": "1.2"}],
    "version": "2.1",
    "previousVersion": OTHER,
    "achievementType": "Certificate",
    "related": [{"id": OTHER, "type": ["Related"], "inLanguage": "de-CH", "version": "1"}],
}
DESCRIPTIONS = [
    {
        "id": "urn:uuid:11111111-1111-4111-8111-111111111111",
        "type": ["ResultDescription"],
        "name": "Note",
        "resultType": "LetterGrade",
        "allowedValue": ["A", "B"],
        "rubricCriterionLevel": [
            {"id": "urn:uuid:22222222-2222-4222-8222-222222222222", "name": "hoch", "points": "3"}
        ],
    }
]


def bare(id: object) -> str:
    return str(id).rpartition("/")[2].rpartition(":")[2]


@FORMS
def test_an_issuer_is_made_read_changed_and_deleted(one: Client, prefix: str) -> None:
    made = one.post(
        f"{prefix}/issuers", {**ISSUER, "publicKey": KEY, "image": "https://school.example.org/l"}
    )
    assert made.status_code == 201, made.text
    id = bare(made.json()["id"])
    path = f"{prefix}/issuers/{id}"
    assert bare(made.headers["Location"]) == id
    assert one.get(path, key=None).json() == made.json()
    assert made.json()["publicKey"] == KEY
    told = {**made.json(), "name": "Neuer Name"}
    changed = one.ask("PUT", path, json=told)
    assert (changed.status_code, changed.json()) == (200, told)
    assert [each["name"] for each in one.get(f"{prefix}/issuers").json()] == ["Neuer Name"]
    assert one.ask("DELETE", path).status_code == 204
    assert one.get(path).status_code == 404
    assert one.ask("DELETE", path).status_code == 404
    assert one.get(f"{prefix}/issuers").headers["X-Total-Count"] == "0"


@FORMS
def test_an_achievement_keeps_every_field_it_was_given(one: Client, prefix: str) -> None:
    issuer = one.add_issuer()
    made = one.post(f"{prefix}/achievements", {**WHOLE, "issuer": issuer, "resultDescription": DESCRIPTIONS})
    assert made.status_code == 201, made.text
    told = made.json()
    assert told["tags" if prefix == "/v2" else "tag"] == WHOLE["tags"]
    assert told["alignment"][0]["targetCode"] == "1.2"
    assert told["image"] == WHOLE["image"]
    for name in ("name", "description", "criteria", "version", "previousVersion", "achievementType"):
        assert told[name] == WHOLE[name], name
    assert told["related"][0]["id"] == OTHER
    assert bare(told["issuer"]) == bare(issuer)
    path = f"/achievements/{bare(told['id'])}"
    assert one.get(f"{prefix}{path}", key=None).json() == told
    described = one.get(path).json()["resultDescription"][0]
    assert described["allowedValue"] == ["A", "B"]
    assert described["rubricCriterionLevel"][0]["points"] == "3"


@FORMS
def test_what_was_read_can_be_put_back_and_nothing_is_lost(one: Client, prefix: str) -> None:
    made = one.post("/achievements", {**WHOLE, "issuer": one.add_issuer(), "resultDescription": DESCRIPTIONS})
    path = f"/achievements/{bare(made.json()['id'])}"
    told = one.get(prefix + path).json()
    changed = one.ask("PUT", prefix + path, json=told | {"name": "Anders"})
    assert (changed.status_code, changed.json()) == (200, told | {"name": "Anders"})
    assert one.get(path).json() == made.json() | {"name": "Anders"}


@FORMS
def test_a_credential_is_made_read_changed_listed_and_deleted(one: Client, prefix: str) -> None:
    achievement = one.post("/achievements", {**WHOLE, "issuer": one.add_issuer()}).json()["id"]
    body = order(achievement, narrative="erst", evidence=["https://work.example.org/1"])
    made = one.post(f"{prefix}/credentials", body)
    assert made.status_code == 201, made.text
    id = bare(made.json()["id"])
    path = f"{prefix}/credentials/{id}"
    assert one.get(path, key=None).json() == made.json()
    signed = one.get(f"/credentials/{id}").json()
    changed = one.ask("PUT", path, json={**body, "narrative": "dann"})
    assert changed.status_code == 200, changed.text
    anew = one.get(f"/credentials/{id}").json()
    assert anew["credentialSubject"]["narrative"] == "dann"
    assert one.get(f"/v2/credentials/{id}").json()["narrative"] == "dann"
    assert anew["credentialStatus"] == signed["credentialStatus"]
    assert anew["id"] == signed["id"]
    assert one.get(f"/credentials/{id}/verify").json()["isValid"]
    for listing in (f"{prefix}/credentials", f"{prefix}/achievements/{bare(achievement)}/credentials"):
        assert one.get(listing).json() == [one.get(path).json()]
        assert one.get(listing, key=None).status_code == 401
    assert one.ask("DELETE", path).status_code == 204
    assert one.get(path).status_code == 410


def test_what_was_read_of_an_assertion_can_be_put_back(one: Client) -> None:
    id = one.issue(narrative="n", expires="2046-01-01T00:00:00Z", image="https://school.example.org/i.png")
    told = one.get(f"/v2/credentials/{id}").json()
    changed = one.ask("PUT", f"/v2/assertions/{id}", json=told)
    assert (changed.status_code, changed.json()) == (200, told)
    assert one.get(f"/credentials/{id}/verify").json()["isValid"]


def test_results_are_signed_and_only_those_that_are_described(one: Client) -> None:
    made = one.post("/achievements", {**WHOLE, "issuer": one.add_issuer(), "resultDescription": DESCRIPTIONS})
    described = DESCRIPTIONS[0]["id"]
    results = [{"type": ["Result"], "resultDescription": described, "value": "A", "status": "Completed"}]
    for proof in ("data-integrity", "jwt"):
        body = order(made.json()["id"], results=results, proof=proof)
        id = bare(one.post("/credentials", body).json()["id"])
        subject = one.get(f"/credentials/{id}").json()["credentialSubject"]
        assert subject["result"] == results
        assert subject["achievement"]["resultDescription"][0]["id"] == described
        assert {each["id"] for each in subject["achievement"]["related"]} == {OTHER}
        assert one.get(f"/credentials/{id}/verify").json()["isValid"]
    unknown = [{"resultDescription": "urn:uuid:33333333-3333-4333-8333-333333333333"}]
    refused = one.post("/credentials", order(made.json()["id"], results=unknown))
    assert (refused.status_code, list(refused.json()["details"])) == (400, ["results"])


def test_what_others_depend_on_is_not_deleted_without_being_told_to(one: Client) -> None:
    issuer = one.add_issuer()
    achievement = one.add_achievement(issuer)
    ids = [one.issue(achievement) for _ in range(2)]
    for path in (f"/issuers/{bare(issuer)}", f"/v2/achievements/{bare(achievement)}"):
        refused = one.ask("DELETE", path)
        assert refused.status_code == 409
        assert "?cascade=true" in refused.json()["detail"]
    assert one.get(f"/credentials/{ids[0]}").status_code == 200
    assert one.ask("DELETE", f"/issuers/{bare(issuer)}?cascade=true").status_code == 204
    for id in ids:
        assert one.get(f"/credentials/{id}", key=None).status_code == 410
        assert one.get(f"/v2/assertions/{id}", key=None).json()["revoked"] is True
    assert one.get(f"/achievements/{bare(achievement)}").status_code == 404
    # Whoever holds a badge can still find out that it does not count any more.
    assert one.get(f"/issuers/{bare(issuer)}/did.json", key=None).status_code == 200
    listed = one.get(f"/v2/issuers/{bare(issuer)}/revocations", key=None).json()["revokedAssertions"]
    assert sorted(bare(each["id"]) for each in listed) == sorted(ids * 2)
    assert one.post("/achievements", {**WHOLE, "issuer": issuer}).status_code == 404


def test_an_achievement_is_deleted_with_its_credentials_where_that_is_asked_for(one: Client) -> None:
    achievement = one.add_achievement()
    id = one.issue(achievement)
    assert one.ask("DELETE", f"/achievements/{bare(achievement)}?cascade=true").status_code == 204
    assert one.get(f"/achievements/{bare(achievement)}").status_code == 404
    assert one.get(f"/credentials/{id}/verify").json()["errorCode"] == "CREDENTIAL_REVOKED"


def test_a_revoked_credential_is_gone_for_reading_changing_and_signing(one: Client) -> None:
    achievement = one.add_achievement()
    id = one.issue(achievement)
    one.post(f"/v2/credentials/{id}/revoke", {"reason": "Irrtum"})
    told = {"id": id, "revocationReason": "Irrtum"}
    for prefix, code in (("", "CREDENTIAL_REVOKED"), ("/v2", "ASSERTION_REVOKED")):
        path = f"{prefix}/credentials/{id}"
        for answer in (
            one.get(path, key=None),
            one.ask("PUT", path, json=order(achievement)),
            one.post(f"{path}/sign"),
        ):
            assert answer.status_code == 410
            assert (answer.json()["code"], answer.json()["details"]) == (code, told)
            assert answer.json().get("revoked", False) is (prefix == "/v2")
    listed = one.get(f"/v2/issuers/{bare(_issuer_of(one, achievement))}/revocations").json()
    assert listed["revokedAssertions"][0]["revocationReason"] == "Irrtum"


def _issuer_of(client: Client, achievement: str) -> str:
    return str(client.get(f"/achievements/{bare(achievement)}").json()["issuer"])


def test_a_credential_is_signed_anew_by_the_key_that_is_named(one: Client) -> None:
    id = one.issue(proof="data-integrity")
    before = one.get(f"/credentials/{id}").json()
    method = before["proof"]["verificationMethod"]
    for named in (method, bare(method.rpartition("#")[2]), None):
        query = {"keyId": named} if named else {}
        answer = one.ask("POST", f"/credentials/{id}/sign", params=query)
        assert answer.status_code == 200, answer.text
        anew = answer.json()
        assert anew["proof"]["verificationMethod"] == method
        assert anew | {"proof": None} == before | {"proof": None}
    assert one.get(f"/credentials/{id}/verify").json()["isValid"]
    other = one.get(f"/credentials/{one.issue(proof='data-integrity')}").json()["proof"]["verificationMethod"]
    for wrong in (other, "nothing"):
        answer = one.ask("POST", f"/credentials/{id}/sign", params={"keyId": wrong})
        assert (answer.status_code, list(answer.json()["details"])) == (400, ["keyId"])


def test_a_body_may_name_things_by_each_form_of_their_ids(one: Client) -> None:
    id = bare(one.add_issuer())
    site = one.get("/").json()["documentation"].removesuffix("/docs")
    for form in (id, f"urn:uuid:{id}", f"{site}/issuers/{id}", f"{site}/v2/issuers/{id}", {"id": id}):
        assert one.post("/achievements", {**WHOLE, "issuer": form}).status_code == 201
    assert one.post("/achievements", {**WHOLE, "issuer": f"https://x.example.org/{id}"}).status_code == 400


def test_both_namings_are_read_and_not_both_at_once(one: Client) -> None:
    body = {**WHOLE, "tag": ["x"], "alignments": WHOLE["alignment"], "issuer": one.add_issuer()}
    del body["tags"], body["alignment"]
    told = one.post("/v2/achievements", body).json()
    assert (told["tags"], told["alignment"][0]["targetName"]) == (["x"], "ESCO")
    assert one.post("/achievements", {**body, "tags": ["y"]}).status_code == 400


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"achievementType": "Shoe"}, "achievementType"),
        ({"related": [{"id": "no URL"}]}, "related"),
        ({"related": [{"id": OTHER, "inLanguage": "GERMAN"}]}, "related.0.inLanguage"),
        ({"resultDescription": [{"name": "n", "resultType": "Colour"}]}, "resultDescription.0.resultType"),
        ({"criteria": {}}, "criteria"),
        ({"image": {"id": "no URL"}}, "image.id"),
        ({"tags": ["t"] * 51}, "tags"),
        ({"name": "n" * 501}, "name"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_bad_achievement_is_a_400_that_names_the_field(
    one: Client, change: dict[str, object], field: str
) -> None:
    answer = one.post("/achievements", {**WHOLE, "issuer": one.add_issuer(), **change})
    assert answer.status_code == 400
    assert (answer.json()["success"], answer.json()["error"]) == (False, "Validation error")
    assert field in answer.json()["details"]


def test_a_body_that_nests_without_end_is_a_400(one: Client) -> None:
    for depth in (20, 5_000, 100_000):
        nested = "[" * depth + "]" * depth
        body = f'{{"name": "n", "context": {nested}, "endorsement": [{{"@context": {nested}}}]}}'
        answer = one.ask("POST", "/achievements", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, depth


def test_the_path_and_the_body_of_a_change_name_the_same_thing(one: Client) -> None:
    one_issuer, other = bare(one.add_issuer()), one.add_issuer()
    told = one.get(f"/issuers/{one_issuer}").json()
    assert one.ask("PUT", f"/issuers/{one_issuer}", json={**told, "id": other}).status_code == 400
    achievement = bare(one.add_achievement(one_issuer))
    moved = one.ask("PUT", f"/achievements/{achievement}", json={**WHOLE, "issuer": other})
    assert (moved.status_code, list(moved.json()["details"])) == (400, ["issuer"])


def test_a_key_of_an_issuer_answers_at_the_address_that_the_issuer_names(one: Client) -> None:
    issuer = one.post("/v2/issuers", ISSUER).json()
    path = issuer["publicKey"].removeprefix(issuer["id"].partition("/v2/")[0])
    key = one.get(path, key=None).json()
    assert (key["id"], key["owner"], key["type"]) == (issuer["publicKey"], issuer["id"], "CryptographicKey")
    assert key["publicKeyPem"].startswith("-----BEGIN PUBLIC KEY-----")
    listed = one.get(issuer["revocationList"].removeprefix(issuer["id"].partition("/v2/")[0]), key=None)
    assert listed.json()["revokedAssertions"] == []
