"""Batches: each item judged on its own, all committed at once."""

from typing import Any

import pytest
import sqlalchemy as sa

from obms.backup.journal import FOLDER
from obms.schema import audit_events, credentials, status_entries
from tests.deployment import Deployment
from tests.web.conftest import Client, order

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def deployment(sqlite: Deployment) -> Deployment:
    """The kind of database does not matter here."""
    return sqlite


def counted(deployment: Deployment, table: sa.Table) -> int:
    with deployment.database.engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def test_each_item_is_judged_on_its_own_and_the_good_ones_are_issued(
    client: Client, deployment: Deployment
) -> None:
    badge = client.add_achievement()
    items: list[Any] = [
        order(badge, proof="jwt"),
        order(badge, narrative="n" * 20_001),
        order(UNKNOWN),
        order(badge, proof="data-integrity", evidence=[{"narrative": "n" * 6000}] * 50),
        17,
        order(badge, proof="data-integrity"),
        order("https://elsewhere.example/achievements/1"),
    ]
    answer = client.post("/credentials/batch", {"credentials": items})
    assert answer.status_code == 201
    told = answer.json()
    assert set(told) == {"results", "summary", "metadata"}
    assert set(told["metadata"]) == {"batchId", "timestamp", "version"}
    figures = told["summary"]
    assert (figures["total"], figures["successful"], figures["failed"]) == (7, 2, 5)
    assert figures["processingTimeMs"] > 0
    results = told["results"]
    assert [result["index"] for result in results] == list(range(7))
    assert [result["success"] for result in results] == [True, False, False, False, False, True, False]
    assert [result.get("error", {}).get("code") for result in results] == [
        *(None, "VALIDATION_ERROR", "NOT_FOUND", "VALIDATION_ERROR", "VALIDATION_ERROR"),
        *(None, "VALIDATION_ERROR"),
    ]
    assert results[1]["error"]["field"] == "narrative"
    assert results[0]["data"]["credentialSubject"]["achievement"]["id"] == badge
    for result in (results[0], results[5]):
        assert client.get(f"/credentials/{result['id']}/verify", key=None).json()["isValid"]
    assert counted(deployment, credentials) == 2
    assert counted(deployment, status_entries) == 4


def test_a_batch_is_read_by_ids(client: Client) -> None:
    ids = [client.issue(), client.issue()]
    client.post(f"/credentials/{ids[1]}/revoke", {"reason": "Irrtum"})
    answer = client.get(f"/credentials/batch?ids={ids[0]},urn:uuid:{ids[0]},{ids[1]},{UNKNOWN},x")
    results = answer.json()["results"]
    assert answer.status_code == 200
    assert [result.get("error", {}).get("code") for result in results] == [
        *(None, None, "CREDENTIAL_REVOKED", "NOT_FOUND", "NOT_FOUND"),
    ]
    assert results[0]["data"] == client.get(f"/credentials/{ids[0]}").json()
    assert results[0]["id"] == results[1]["id"] == ids[0]


def test_standings_are_changed_in_a_batch_and_revocations_are_written_into_the_journal(
    client: Client, deployment: Deployment
) -> None:
    badge = client.add_achievement()
    ids = [client.issue(badge) for _ in range(4)]
    updates: list[Any] = [
        {"id": ids[0], "status": "revoked", "reason": "Irrtum"},
        {"id": f"urn:uuid:{ids[1]}", "status": "suspended"},
        {"id": ids[2], "status": "active"},
        {"id": ids[3], "status": "burnt"},
        {"id": UNKNOWN, "status": "revoked"},
        {"id": ids[0], "status": "active"},
        {"id": ids[0], "status": "suspended"},
        None,
    ]
    answer = client.ask("PUT", "/credentials/batch/status", json={"updates": updates})
    results = answer.json()["results"]
    assert [result.get("error", {}).get("code") for result in results] == [
        *(None, None, None, "VALIDATION_ERROR", "NOT_FOUND", "CONFLICT", "CONFLICT", "VALIDATION_ERROR"),
    ]
    assert [result["data"]["status"] for result in results[:3]] == ["revoked", "suspended", "active"]
    verdicts = [client.get(f"/credentials/{id}/verify").json()["errorCode"] for id in ids]
    assert verdicts == ["CREDENTIAL_REVOKED", "CREDENTIAL_SUSPENDED", None, None]
    journal = "".join(
        path.read_text() for path in (deployment.backup_dir / FOLDER).rglob("*") if path.is_file()
    )
    assert ids[0] in journal
    assert ids[1] in journal
    with deployment.database.engine.connect() as connection:
        acts = connection.execute(sa.select(audit_events.c.action)).scalars().all()
    assert (acts.count("credential.revoke"), acts.count("credential.suspend")) == (1, 1)


def test_one_standing_is_changed_by_name(client: Client) -> None:
    id = client.issue()
    path = f"/credentials/{id}/status"
    assert client.post(path, {"status": "suspended", "reason": "r"}).json()["reason"] == "r"
    assert client.post(path, {"status": "active"}).json()["status"] == "active"
    assert client.post(path, {"status": "revoked"}).json()["revoked"]
    assert client.post(path, {"status": "active"}).status_code == 409
    assert client.post(path, {"status": "gone"}).status_code == 400
    assert client.post(path, {"status": "revoked"}, key=None).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/credentials/batch", {"credentials": []}),
        ("POST", "/credentials/batch", {"credentials": [{}] * 101}),
        ("PUT", "/credentials/batch/status", {"updates": []}),
        ("PUT", "/credentials/batch/status", {"updates": [{}] * 101}),
        ("GET", "/credentials/batch?ids=,", None),
        ("GET", "/credentials/batch", None),
        ("GET", "/credentials/batch?ids=" + "x," * 101, None),
    ],
)
def test_a_batch_has_one_to_a_hundred_items_and_a_key(
    client: Client, method: str, path: str, body: object
) -> None:
    answer = client.ask(method, path, json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "Validation error")
    assert client.ask(method, path, json=body, key=None).status_code == 401


def test_a_batch_is_one_transaction(client: Client) -> None:
    badge = client.add_achievement()
    items = [order(badge, proof="jwt", alg="EdDSA") for _ in range(20)]
    engine, commits = client.app.state.server.database.engine, list[Any]()
    sa.event.listen(engine, "commit", commits.append)
    assert client.post("/credentials/batch", {"credentials": items}).json()["summary"]["successful"] == 20
    assert len(commits) == 1
    for item in items[:3]:
        assert client.post("/credentials", item).status_code == 201
    assert len(commits) == 4
