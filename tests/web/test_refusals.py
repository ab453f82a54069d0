"""What the API refuses, and how it says so."""

import re

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from obms.badges import Site, api_keys
from obms.observe import name_request
from obms.schema import user_roles, users
from tests.deployment import Deployment
from tests.web.conftest import ISSUER, Client, order

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/issuers"),
        ("POST", "/achievements"),
        ("POST", "/credentials"),
        ("GET", "/credentials"),
        ("GET", f"/achievements/{UNKNOWN}/credentials"),
        ("DELETE", f"/credentials/{UNKNOWN}"),
        ("POST", f"/credentials/{UNKNOWN}/revoke"),
        ("POST", f"/credentials/{UNKNOWN}/suspend"),
        ("POST", f"/credentials/{UNKNOWN}/unsuspend"),
    ],
)
@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_stranger_may_not(client: Client, method: str, path: str, key: str | None) -> None:
    bodies = {"/issuers": ISSUER, "/credentials": order(UNKNOWN)}
    achievement = {"name": "n", "description": "d", "criteria": {"narrative": "n"}, "issuer": UNKNOWN}
    bodies["/achievements"] = achievement
    answer = client.ask(method, path, key=key, json=bodies.get(path) if method == "POST" else None)
    assert answer.status_code == 401
    assert answer.json()["success"] is False
    assert answer.json()["error"] == "Authentication required"


def _user(deployment: Deployment, site: Site, role: str | None, issuer_id: str | None) -> str:
    """The API key of a new user with one role."""
    engine = deployment.database.engine.execution_options(writing=True)
    with engine.begin() as connection:
        row = {"id": "u1", "username": "u", "email": "u@example.org", "created_at": site.clock()}
        connection.execute(sa.insert(users).values(row))
        if role:
            values = {"id": "r1", "user_id": "u1", "role": role, "issuer_id": issuer_id}
            connection.execute(sa.insert(user_roles).values(values))
        return api_keys.make_key(connection, site, "u1", "test")[1]


def test_staff_issue_for_their_issuer_and_for_no_other(client: Client, deployment: Deployment) -> None:
    mine, other = client.add_issuer(), client.add_issuer()
    key = _user(deployment, deployment.application.site, "staff", mine.rpartition(":")[2])
    allowed, denied = client.add_achievement(mine), client.add_achievement(other)
    foreign = client.issue(denied)
    assert client.post("/credentials", order(allowed), key=key).status_code == 201
    assert client.post("/credentials", order(denied), key=key).status_code == 403
    assert client.post(f"/credentials/{foreign}/revoke", key=key).status_code == 403
    assert client.ask("DELETE", f"/credentials/{foreign}", key=key).status_code == 403
    assert client.post("/issuers", ISSUER, key=key).status_code == 403
    assert client.get("/credentials", key=key).headers["X-Total-Count"] == "1"
    path = f"/achievements/{denied.rpartition('/')[2]}/credentials"
    assert client.get(path, key=key).status_code == 403
    assert client.get(path).headers["X-Total-Count"] == "1"


def test_a_key_without_a_role_gives_no_right(client: Client, deployment: Deployment) -> None:
    achievement = client.add_achievement()
    key = _user(deployment, deployment.application.site, None, None)
    assert client.post("/credentials", order(achievement), key=key).status_code == 403
    assert client.get("/credentials", key=key).json() == []


@pytest.mark.parametrize("text", ['"a\\u0000b"', '"a\\ud800b"', '""', "17"])
@pytest.mark.parametrize("field", ["name", "description", "email"])
def test_text_that_cannot_be_kept_or_signed_is_a_400(client: Client, text: str, field: str) -> None:
    members = {"name": '"n"', "url": '"https://school.example.org/"', field: text}
    body = "{" + ", ".join(f'"{name}": {value}' for name, value in members.items()) + "}"
    answer = client.ask("POST", "/issuers", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert field in answer.json()["details"]


@pytest.mark.parametrize(
    "change",
    [
        {"issuedOn": "2026-01-01T00:00:00"},
        {"issuedOn": "0001-01-01T00:00:00+23:00"},
        {"expires": "2025-01-01T00:00:00Z"},
        {"expires": "9999-12-31T23:59:59-05:00"},
        {"recipient": {"type": "shoe size", "identity": "44"}},
        {"recipient": {"type": "email", "identity": "a\u0000"}},
        {"evidence": ["no URL"]},
        {"evidence": [{"narrative": "n"}] * 51},
        {"narrative": "n" * 20_001},
        {"surprise": 1},
        {"proof": "crayon"},
    ],
)
def test_a_bad_order_is_a_400_that_names_the_field(client: Client, change: dict[str, object]) -> None:
    answer = client.post("/credentials", {**order(UNKNOWN), **change})
    assert answer.status_code == 400
    assert answer.json()["error"] == "Validation error"
    assert next(iter(change)) in " ".join(answer.json()["details"]) or "body" in answer.json()["details"]


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/issuers/1",
        f"/issuers/{UNKNOWN}",
        f"/credentials/{UNKNOWN}",
        "/assets/a%00b",
        "/assets/x",
    ],
)
def test_what_is_not_there_is_a_404_in_both_languages(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    body = answer.json()
    assert (body["error"], body["status"], body["title"]) == ("Not Found", 404, "Not Found")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_without_end_is_refused(client: Client) -> None:
    assert client.ask("POST", "/issuers", content=b" " * 1_100_000).status_code == 413


def test_each_answer_has_a_request_id_and_keeps_a_sound_one(client: Client) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", client.get("/version").headers["x-request-id"])
    assert client.get("/version", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    forged = client.get("/version", headers={"x-request-id": "a b\tc"}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", forged)


def test_the_log_names_a_request_by_the_id_of_its_answer(one: Client) -> None:
    badge = one.add_achievement()
    with one.app.state.server.write() as connection:
        connection.exec_driver_sql("DROP TABLE revocations")
        connection.exec_driver_sql("DROP TABLE status_entries")
    with capture_logs(processors=[name_request]) as logged:
        answers = [
            one.get(f"/credentials/{UNKNOWN}"),
            one.get("/issuers/x"),
            one.post("/credentials", order(badge)),
        ]
    assert [answer.status_code for answer in answers] == [503, 404, 503]
    named = [answer.headers["x-request-id"] for answer in answers if answer.is_server_error]
    assert [line["request_id"] for line in logged] == named


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/issuers", "GET, HEAD, POST"),
        ("/issuers/x", "GET, HEAD, PUT, DELETE"),
        ("/v2/badge-classes/x/related", "GET, HEAD, POST"),
        ("/credentials/batch", "GET, HEAD, POST"),
        ("/version", "GET, HEAD"),
    ],
)
def test_a_method_that_is_not_there_is_answered_with_all_that_are(
    one: Client, path: str, allowed: str
) -> None:
    answer = one.ask("PATCH", path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
