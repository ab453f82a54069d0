"""Status lists over HTTP: signed, in their time, growing, and told of."""

import json
from datetime import datetime, timedelta
from typing import Any

import jwt
import pytest
import sqlalchemy as sa
from openbadgeslib.ob3 import decode_encoded_list, set_indices, verify_data_integrity_proof

from obms.badges import statuses
from obms.schema import audit_events, signing_keys, status_lists
from tests.deployment import Deployment
from tests.web.conftest import Client


@pytest.fixture
def deployment(sqlite: Deployment) -> Deployment:
    """The kind of database does not matter here."""
    return sqlite


def path_of(url: object) -> str:
    return "/" + str(url).split("/", 3)[3].partition("#")[0]


def bits(document: dict[str, Any]) -> set[int]:
    return set(set_indices(decode_encoded_list(document["credentialSubject"]["encodedList"])))


def test_a_list_is_signed_in_both_ways_under_its_own_address_for_a_time(
    client: Client, deployment: Deployment
) -> None:
    id = client.issue()
    revocation = client.get(f"/credentials/{id}").json()["credentialStatus"]
    client.post(f"/credentials/{id}/revoke")
    answer = client.get(path_of(revocation["statusListCredential"]), key=None)
    document = answer.json()
    assert document["id"] == revocation["statusListCredential"]
    assert document["type"] == ["VerifiableCredential", "BitstringStatusListCredential"]
    assert bits(document) == {int(revocation["statusListIndex"])}
    assert document["credentialSubject"]["ttl"] == statuses.TTL
    begin, end = (datetime.fromisoformat(document[name]) for name in ("validFrom", "validUntil"))
    assert end - begin == statuses.VALIDITY
    assert answer.headers["cache-control"] == "max-age=300"
    with deployment.database.engine.connect() as connection:
        pems = {row.id: row.public_pem for row in connection.execute(sa.select(signing_keys))}
    verify_data_integrity_proof(document, pems[document["proof"]["verificationMethod"].rpartition("#")[2]])
    for more in ({"params": {"format": "jwt"}}, {"headers": {"Accept": "application/vc+jwt"}}):
        answer = client.get(path_of(document["id"]), key=None, **more)
        assert answer.headers["content-type"].startswith("application/vc+jwt")
        header = jwt.get_unverified_header(answer.text)
        assert (header["alg"], header["typ"]) == ("RS256", "vc+jwt")
        claims = jwt.decode(answer.text, pems[header["kid"].rpartition("#")[2]], algorithms=["RS256"])
        assert bits(claims) == bits(document)
        assert claims["exp"] == end.timestamp()


def test_a_list_is_signed_anew_before_it_ends(client: Client, deployment: Deployment) -> None:
    client.issue()
    path = path_of(client.get("/status-lists").json()[0]["id"])
    first = client.get(path).text
    assert client.get(path).text == first
    with deployment.database.engine.execution_options(writing=True).begin() as connection:
        old = statuses.find_list(connection, path.rpartition("/")[2])["signed_at"] - statuses.VALIDITY / 2
        early = {"signed_at": old, "changed_at": old - timedelta(days=1)}
        connection.execute(sa.update(status_lists).values(early))
    assert json.loads(client.get(path).text)["validUntil"] >= json.loads(first)["validUntil"]
    with deployment.database.engine.connect() as connection:
        assert statuses.find_list(connection, path.rpartition("/")[2])["signed_at"] > old


def test_a_list_of_another_size_is_opened_and_its_figures_are_told(
    client: Client, deployment: Deployment
) -> None:
    issuer = client.add_issuer()
    body = {
        "purpose": "revocation",
        "issuer": issuer,
        "totalEntries": 262_144,
        "ttl": 60_000,
        "statusSize": 1,
    }
    answer = client.post("/status-lists", body)
    assert answer.status_code == 201
    told = answer.json()
    assert (told["totalEntries"], told["ttl"], told["id"]) == (262_144, 60_000, answer.headers["location"])
    assert client.get("/status-lists").headers["X-Total-Count"] == "3"
    served = client.get(path_of(told["id"]), key=None)
    assert served.headers["cache-control"] == "max-age=60"
    assert served.json()["credentialSubject"]["ttl"] == 60_000
    encoded = served.json()["credentialSubject"]["encodedList"]
    assert len(decode_encoded_list(encoded)) * 8 == 262_144
    stats = client.get(path_of(told["id"]) + "/stats").json()
    assert stats["statusBreakdown"] == {"0": 0, "1": 0}
    assert stats["availableEntries"] == 262_144
    assert client.get(path_of(told["id"]) + "/stats", key=None).status_code == 401
    with deployment.database.engine.connect() as connection:
        acts = connection.execute(sa.select(audit_events.c.action)).scalars().all()
    assert acts.count("status-list.create") == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"totalEntries": 131_064}, "totalEntries"),
        ({"totalEntries": 131_073}, "totalEntries"),
        ({"totalEntries": 2**40}, "totalEntries"),
        ({"statusSize": 2}, "statusSize"),
        ({"purpose": "fun"}, "purpose"),
        ({"ttl": -1}, "ttl"),
        ({"issuer": None}, "issuer"),
        ({"issuer": "nobody"}, "issuer"),
        ({"more": 1}, "more"),
    ],
)
def test_a_list_that_cannot_be_is_refused_by_field(
    client: Client, change: dict[str, object], field: str
) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    body = {"purpose": "revocation", "issuer": unknown}
    assert client.post("/status-lists", body).status_code == 404
    answer = client.post("/status-lists", {**body, **change})
    assert (answer.status_code, list(answer.json()["details"])) == (400, [field])
    assert client.post("/status-lists", body, key=None).status_code == 401


def test_when_a_list_of_the_real_size_is_full_the_next_badges_go_into_a_new_one(
    client: Client, deployment: Deployment
) -> None:
    badge = client.add_achievement()
    with deployment.database.engine.execution_options(writing=True).begin() as connection:
        assert set(connection.execute(sa.select(status_lists.c.size)).scalars()) == {131_072}
        connection.execute(sa.update(status_lists).values(next_index=131_071))
    ids = [client.issue(badge) for _ in range(3)]
    entries = [client.get(f"/credentials/{id}").json()["credentialStatus"] for id in ids]
    lists = [entry["statusListCredential"] for entry in entries]
    assert lists[0] != lists[1] == lists[2]
    assert client.get("/status-lists").headers["X-Total-Count"] == "4"
    for id in (ids[0], ids[2]):
        client.post(f"/credentials/{id}/revoke")
    for entry in (entries[0], entries[2]):
        document = client.get(path_of(entry["statusListCredential"]), key=None).json()
        assert bits(document) == {int(entry["statusListIndex"])}
    full = client.get(path_of(lists[0]) + "/stats").json()
    assert (full["availableEntries"], full["utilizationPercent"]) == (0, 100.0)
    assert [client.get(f"/credentials/{id}/verify").json()["isValid"] for id in ids] == [False, True, False]
