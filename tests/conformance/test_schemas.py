"""1EdTech's JSON schemas on every document of Open Badges 3.0 that this server gives out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft201909Validator

from obms.web import create_app
from tests.deployment import Deployment
from tests.web.conftest import ISSUER, Client, order
from tests.web.test_resources import DESCRIPTIONS, WHOLE, bare

SCHEMAS = Path(__file__).parent / "schemas"
CREDENTIAL, PROFILE = "ob_v3p0_achievementcredential_schema.json", "ob_v3p0_profile_schema.json"
Complaints = Callable[..., list[str]]


@pytest.fixture(scope="session")
def complaints() -> Complaints:
    """What a schema, or a part of one, finds wrong with a document."""
    schemas = {name: json.loads((SCHEMAS / name).read_text()) for name in (CREDENTIAL, PROFILE)}

    def complain(document: object, name: str = CREDENTIAL, part: str | None = None) -> list[str]:
        schema = schemas[name]
        if part:
            schema = {"$schema": schema["$schema"], "$defs": schema["$defs"], "$ref": f"#/$defs/{part}"}
        validator = Draft201909Validator(schema, format_checker=Draft201909Validator.FORMAT_CHECKER)
        return [
            f"{'/'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(document)
        ]

    return complain


@pytest.fixture
def achievement(client: Client) -> dict[str, Any]:
    """An achievement that has all that one may have."""
    image = {"id": "https://school.example.org/l.png", "caption": "Bild"}
    issuer = client.post("/issuers", {**ISSUER, "description": "Prüft.", "image": image}).json()["id"]
    made = client.post("/achievements", {**WHOLE, "issuer": issuer, "resultDescription": DESCRIPTIONS})
    assert made.status_code == 201, made.text
    return dict(made.json())


@pytest.mark.parametrize("proof", ["data-integrity", "jwt"])
def test_a_badge_that_says_all_it_may_is_as_the_schema_wants_it(
    client: Client, achievement: dict[str, Any], complaints: Complaints, proof: str
) -> None:
    results = [{"resultDescription": DESCRIPTIONS[0]["id"], "value": "A", "status": "Completed"}]
    evidence = [{"id": "https://work.example.org/1", "name": "n", "genre": "g"}, {"narrative": "ليل"}]
    more = {"expires": "2046-01-01T00:00:00Z", "narrative": "n", "results": results, "evidence": evidence}
    for kind in ("email", "url", "telephone", "id"):
        recipient = {"type": kind, "identity": "zoë@example.org", "hashed": kind != "id"}
        made = client.post("/credentials", order(achievement["id"], proof=proof, recipient=recipient, **more))
        assert made.status_code == 201, made.text
        document = client.get(f"/v3/credentials/{bare(made.json()['id'])}").json()
        assert complaints(document) == []
        assert document["credentialStatus"]["statusPurpose"] == "revocation"


def test_the_plainest_badge_is_as_the_schema_wants_it(client: Client, complaints: Complaints) -> None:
    issuer = client.post("/issuers", {"name": "n", "url": "https://school.example.org/"}).json()["id"]
    body = {"name": "n", "description": "d", "criteria": {"narrative": "n"}, "issuer": issuer}
    id = client.issue(client.post("/achievements", body).json()["id"], proof="data-integrity")
    assert complaints(client.get(f"/credentials/{id}").json()) == []


def test_a_badge_that_names_both_its_places_is_refused_for_that_alone(
    sqlite: Deployment, complaints: Complaints
) -> None:
    """The price of CREDENTIAL_STATUS_ENTRIES=both; each entry by itself is as the schema wants it."""
    sqlite.environment["CREDENTIAL_STATUS_ENTRIES"] = "both"
    server = sqlite.application
    client = Client(app=create_app(server))
    document = client.get(f"/credentials/{client.issue()}").json()
    server.database.engine.dispose()
    (told,) = complaints(document)
    assert told.startswith("credentialStatus: ")
    entries = document["credentialStatus"]
    assert [entry["statusPurpose"] for entry in entries] == ["revocation", "suspension"]
    assert [complaints({**document, "credentialStatus": entry}) for entry in entries] == [[], []]


def test_issuers_and_achievements_are_as_the_schemas_want_them(
    client: Client, achievement: dict[str, Any], complaints: Complaints
) -> None:
    assert complaints(client.get(f"/issuers/{bare(achievement['issuer'])}").json(), PROFILE) == []
    assert complaints(achievement, part="Achievement") == []
    assert complaints(client.get("/v3/achievements").json()[0], part="Achievement") == []


def test_a_schema_says_no(client: Client, complaints: Complaints) -> None:
    document = client.get(f"/credentials/{client.issue()}").json()
    assert complaints(document) == []
    document["credentialSubject"]["achievement"]["achievementType"] = "Shoe"
    document["validFrom"] = "yesterday"
    assert len(complaints(document)) == 2
