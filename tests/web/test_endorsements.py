"""What others say for an achievement, and what it is related to."""

from typing import Any

import pytest
import sqlalchemy as sa

from obms.databases import writing
from obms.schema import endorsements
from obms.web.probe import probe
from tests.badges.endorsers import endorser
from tests.conformance.test_schemas import Complaints, complaints  # noqa: F401 - a fixture
from tests.deployment import Deployment
from tests.web.conftest import Client
from tests.web.test_resources import bare


def told(client: Client, achievement: str) -> list[Any]:
    return list(client.get(f"/achievements/{bare(achievement)}/endorsements", key=None).json())


@pytest.mark.parametrize("proof", ["data-integrity", "jwt"])
def test_what_is_proven_goes_into_badges_and_verifies_there(
    one: Client,
    complaints: Complaints,  # noqa: F811
    proof: str,
) -> None:
    achievement, friend = one.add_achievement(), endorser()
    path = f"/achievements/{bare(achievement)}/endorsements"
    signed, token = friend.signs(achievement), friend.token(achievement)
    unsigned = friend.says(achievement, id="urn:uuid:55555555-5555-4555-8555-555555555555")
    del unsigned["name"]
    for said in (signed, token, unsigned):
        answer = one.post(path, said)
        assert answer.status_code == 200, answer.text
        assert answer.json()["id"] == achievement
    assert told(one, achievement) == [signed, token, unsigned]
    whole = one.get(f"/achievements/{bare(achievement)}").json()
    assert (whole["endorsement"], whole["endorsementJwt"]) == ([signed, unsigned], [token])
    id = one.issue(achievement, proof=proof)
    badge = one.get(f"/credentials/{id}").json()
    inside = badge["credentialSubject"]["achievement"]
    assert (inside["endorsement"], inside["endorsementJwt"]) == ([signed], [token])
    assert one.get(f"/credentials/{id}/verify").json()["isValid"]
    assert complaints(badge) == []
    assert complaints(signed, part="EndorsementCredential") == []


def test_what_is_endorsed_when_it_is_made_is_kept_and_what_is_put_back_stays(one: Client) -> None:
    friend = endorser()
    body = {"name": "n", "description": "d", "criteria": {"narrative": "n"}, "issuer": one.add_issuer()}
    said = friend.says("https://anything.example.org/1")
    made = one.post("/achievements", {**body, "endorsement": [said]})
    assert made.status_code == 201, made.text
    path = f"/achievements/{bare(made.json()['id'])}"
    one.post(f"{path}/endorsements", friend.signs(made.json()["id"]))
    whole = one.get(path).json()
    assert one.ask("PUT", path, json=whole).json() == whole
    assert one.ask("PUT", f"/v2{path}", json=one.get(f"/v2{path}").json()).status_code == 200
    assert one.get(path).json() == whole
    assert "endorsement" not in one.ask("PUT", path, json={**body, "endorsement": []}).json()
    assert told(one, path) == []


def test_an_endorsement_that_is_not_sound_is_a_400_that_names_the_field(one: Client) -> None:
    achievement, friend = one.add_achievement(), endorser()
    signed = friend.signs(achievement)
    forged = {**signed, "credentialSubject": {**signed["credentialSubject"], "endorsementComment": "Geht so"}}
    bodies: list[tuple[object, str]] = [
        (forged, "endorsement"),
        ({**signed, "issuer": endorser().did}, "endorsement"),
        (friend.token(achievement)[:-6] + "AAAAAA", "endorsement"),
        (friend.says(one.add_achievement()), "credentialSubject.id"),
        (friend.says(achievement, type=["VerifiableCredential"]), "body"),
        (friend.says(achievement, validFrom="yesterday"), "validFrom"),
        (friend.says(achievement, more=_nested(20)), "body"),
        (friend.says(achievement, more="\x00"), "body"),
        ("no token", "body"),
    ]
    for body, field in bodies:
        answer = one.post(f"/achievements/{bare(achievement)}/endorsements", body)
        assert answer.status_code == 400, answer.text
        assert any(field in name for name in answer.json()["details"]) or field == "body", answer.text
    assert told(one, achievement) == []


def _nested(depth: int) -> Any:
    return [_nested(depth - 1)] if depth else "x"


def test_achievements_are_related_and_not_any_more(one: Client) -> None:
    issuer = one.add_issuer()
    achievement, other = one.add_achievement(issuer), one.add_achievement(issuer, name="anderes")
    path, far = f"/achievements/{bare(achievement)}/related", "https://other.example.org/achievements/1"
    for body in (
        {"id": bare(other), "type": ["Related"], "version": "2"},
        {"id": other, "type": ["Related"], "inLanguage": "de"},
        {"id": far, "type": ["Related"]},
    ):
        answer = one.post(path, body)
        assert answer.status_code == 200, answer.text
    listed = one.get(path, key=None).json()
    assert {each["id"]: each.get("name") for each in listed} == {other: "anderes", far: None}
    ours = next(each for each in listed if each["id"] == other)
    assert (ours["type"], ours["inLanguage"], "version" in ours) == (["Related"], "de", False)
    assert {each["id"] for each in one.get(f"/v2{path}").json()} == {
        far,
        other.replace("/achievements/", "/v2/achievements/"),
    }
    assert one.post(path, {"id": achievement, "type": ["Related"]}).status_code == 409
    assert one.post(path, {"id": "00000000-0000-4000-8000-000000000000"}).status_code == 404
    assert one.ask("DELETE", f"{path}/{far}").status_code == 200
    assert one.ask("DELETE", f"{path}/{far}").status_code == 404
    assert one.ask("DELETE", f"/achievements/{bare(other)}").status_code == 204
    assert one.get(path).json() == []


def test_no_more_than_fifty_stand_beside_an_achievement(one: Client) -> None:
    related = [{"id": f"https://other.example.org/{number}"} for number in range(50)]
    achievement = one.add_achievement(related=related)
    refused = one.post(f"/achievements/{bare(achievement)}/related", {"id": "https://other.example.org/50"})
    assert refused.status_code == 409
    again = one.post(f"/achievements/{bare(achievement)}/related", {"id": "https://other.example.org/1"})
    assert again.status_code == 200


def test_a_stranger_endorses_and_relates_nothing(one: Client) -> None:
    path = f"/achievements/{bare(one.add_achievement())}"
    said = endorser().says("x")
    assert one.post(f"{path}/endorsements", said, key=None).status_code == 401
    assert one.post(f"{path}/related", {"id": "https://x.example.org/"}, key=None).status_code == 401
    assert one.ask("DELETE", f"{path}/related/1", key=None).status_code == 401


def test_the_proof_of_a_backup_looks_at_endorsements_and_knows_deleted_issuers(
    one: Client, sqlite: Deployment
) -> None:
    achievement, friend = one.add_achievement(), endorser()
    one.issue(achievement)
    one.post(f"/achievements/{bare(achievement)}/endorsements", friend.signs(achievement))
    gone = one.add_issuer()
    assert one.ask("DELETE", f"/issuers/{bare(gone)}").status_code == 204
    server = sqlite.application
    assert [check for check in probe(lambda _: server)(server.database) if not check.ok] == []
    with writing(server.database.engine) as connection:
        forged = sa.func.replace(endorsements.c.document, "Sehr gut", "Sehr mau")
        connection.execute(sa.update(endorsements).values(document=forged))
    failed = [check.name for check in probe(lambda _: server)(server.database) if not check.ok]
    assert failed == ["endorsements verify"]
    server.database.engine.dispose()
