"""What is written down, and what never is (OWASP API2, API8, API9)."""

import io
import json
from typing import Any

import pytest
import sqlalchemy as sa

from obms.schema import audit_events
from obms.web import create_app
from tests.deployment import API_KEY, SECRET, Deployment
from tests.security.people import PASSWORD, add_person
from tests.security.rules import RULES, address, fill, rule_name
from tests.security.test_logins import NEW_PASSWORD, log_in
from tests.web.conftest import Client, order


def events(deployment: Deployment) -> list[Any]:
    with deployment.database.engine.connect() as connection:
        return list(connection.execute(sa.select(audit_events).order_by(audit_events.c.id)))


# What these change is nothing that is kept, or what they do is said of each item by another action.
UNRECORDED = {
    "POST /verify",
    "POST /vc/credentials/verify",
    "POST /vc/presentations/verify",
    "POST /auth/register",
}


def test_every_route_that_writes_is_recorded_with_who_did_it(client: Client, sqlite: Deployment) -> None:
    """Those of which an example is known; the actor is the administrator's key, the time is now."""
    mary = add_person(sqlite, "mary")
    add_person(sqlite, "with-password", password=PASSWORD)
    issuer = client.add_issuer()
    achievement = client.add_achievement(issuer)
    facts = {"self": mary.id, "other": mary.id, "key": mary.key_id, "issuer": issuer.rpartition(":")[2]}
    facts |= {"achievement": achievement.rpartition("/")[2], "asset": "x", "list": "x", "signing key": "x"}
    missing: list[str] = []
    for method, path in writing_routes(client):
        rule = RULES[rule_name(method, path)]
        if not rule.example or rule_name(method, path) in UNRECORDED:
            continue
        facts |= {"credential": client.issue(achievement, proof="jwt"), "number": str(len(missing))}
        if path.endswith("/unsuspend"):
            client.post(f"/credentials/{facts['credential']}/suspend")
        before = len(events(sqlite))
        body = {"content": fill(rule.content, facts)} if rule.content else {"json": fill(rule.body, facts)}
        answer = client.ask(method, address(path, facts), **body)
        if answer.status_code >= 400 or len(events(sqlite)) == before:
            missing.append(f"{method} {path} -> {answer.status_code} {answer.text[:100]}")
    assert "\n".join(missing) == ""
    assert {event.actor for event in events(sqlite)} <= {"environment", *user_ids(client)} | {mary.id}


def user_ids(client: Client) -> set[str]:
    return {user["id"] for user in client.get("/users").json()}


def writing_routes(client: Client) -> list[tuple[str, str]]:
    paths: dict[str, dict[str, Any]] = client.app.openapi()["paths"]
    found = [
        (method.upper(), path) for path, methods in paths.items() for method in methods if method != "get"
    ]
    mine = [(method, path) for method, path in found if path.split("/")[1] not in ("v2", "v3")]
    today = [
        (method, path) for method, path in mine if "assertions" not in path and "badge-class" not in path
    ]
    return sorted(today, key=lambda one: (one[0] == "DELETE", -len(one[1])))


def test_the_administrator_reads_it_page_by_page(client: Client, sqlite: Deployment) -> None:
    mary = add_person(sqlite, "mary")
    for _ in range(3):
        client.post(f"/users/{mary.id}/api-keys", {"description": "d"})
    client.ask("PATCH", f"/users/{mary.id}", json={"isActive": False})
    page = client.get("/audit", params={"limit": 2, "action": "api-key.create"})
    assert (page.headers["x-total-count"], len(page.json())) == ("3", 2)
    assert "action=api-key.create" in page.headers["link"]
    newest = client.get("/audit").json()[0]
    assert (newest["actor"], newest["action"], newest["subject"]) == ("environment", "user.change", mary.id)
    assert newest["detail"] == {"is_active": False}
    assert newest["at"].endswith("Z")
    assert client.get("/audit", params={"subject": mary.id}).headers["x-total-count"] == "1"
    assert client.get("/audit", key=None).status_code == 401


def test_the_commands_do_the_same_and_are_recorded(
    sqlite: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = _add_issuer(sqlite)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n{NEW_PASSWORD}\nshort\n"))
    made = sqlite.obms("users", "add", "mary", "mary@example.org", "--password", "--json").json
    assert sqlite.obms("users", "password", "mary").code == 0
    assert sqlite.obms("users", "password", "mary").code == 2
    assert sqlite.obms("users", "add", "MARY", "other@example.org").code == 8
    assert sqlite.obms("users", "give", "mary", "editor", "--issuer", issuer).code == 0
    assert sqlite.obms("users", "give", "mary", "editor").code == 2
    assert f"editor of {issuer}" in sqlite.obms("users", "list").out
    key = sqlite.obms("users", "api-key", "add", "mary", "nightly", "--expires", "2999-01-01", "--json").json
    server = sqlite.application
    client = Client(app=create_app(server))
    assert client.get("/auth/profile", key=key["key"]).json()["user"]["id"] == made["id"]
    assert log_in(client, "mary", NEW_PASSWORD).status_code == 200
    listed = sqlite.obms("users", "api-key", "list", "mary", "--json")
    assert [one["id"] for one in listed.json] == [key["id"]]
    assert key["key"] not in listed.out
    assert sqlite.obms("users", "api-key", "revoke", key["id"]).code == 0
    assert client.get("/auth/profile", key=key["key"]).status_code == 401
    assert sqlite.obms("users", "take", "mary", "--issuer", issuer).code == 0
    assert "(closed)" in sqlite.obms("users", "disable", "mary").out
    assert log_in(client, "mary", NEW_PASSWORD).status_code == 401
    assert "(closed)" not in sqlite.obms("users", "enable", "mary").out
    assert sqlite.obms("users", "disable", "nobody").code == 2
    done = [event.action for event in events(sqlite) if event.actor.startswith("command:")]
    assert done == [
        *("user.create", "user.password", "role.give", "api-key.create", "api-key.revoke"),
        *("role.take", "user.change", "user.change"),
    ]
    server.database.engine.dispose()


def _add_issuer(deployment: Deployment) -> str:
    server = deployment.application
    issuer = Client(app=create_app(server)).add_issuer().rpartition(":")[2]
    server.database.engine.dispose()
    return issuer


def test_a_command_on_a_database_that_is_not_there_says_so(sqlite: Deployment) -> None:
    nowhere = {"SQLITE_FILE": str(sqlite.folder / "nowhere" / "x.db")}
    answer = sqlite.obms("users", "list", **nowhere)
    assert (answer.code, "obms migrate" in answer.err, "Traceback" in answer.err) == (3, True, False)


def test_no_secret_is_in_a_log_an_error_or_a_record(
    sqlite: Deployment, capfd: pytest.CaptureFixture[str]
) -> None:
    sqlite.environment["AUTH_BASIC_AUTH_ROOT"] = "the-basic-password:root:admin"
    mary = add_person(sqlite, "mary", "admin", password=PASSWORD)
    server = sqlite.application
    client = Client(app=create_app(server))
    token = log_in(client, "mary").json()["token"]
    log_in(client, "mary", "a-wrong-password")
    log_in(client, "a-password-typed-as-the-name", "x")
    said = [client.post("/users", {"username": "x", "email": "x@example.org", "password": "tiny-word"}).text]
    said.append(client.post("/auth/login", {"usernameOrEmail": 7, "password": PASSWORD}).text)
    said.append(client.get("/auth/profile", key=mary.key + "x").text)
    said.append(client.post("/credentials", order("nothing")).text)
    with sqlite.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE users RENAME COLUMN username TO name")
    said += [
        log_in(client, "a-password-typed-as-the-name").text,
        client.get("/users", headers={"Authorization": f"Bearer {token}"}).text,
    ]
    said += [repr(server), repr(sqlite.settings), str(sqlite.settings)]
    out, err = capfd.readouterr()
    assert "login refused" in err
    assert "request failed" in err
    with sqlite.database.engine.connect() as connection:
        hashes = [row[0] for row in connection.exec_driver_sql("SELECT password_hash FROM users") if row[0]]
    told = "\n".join([*said, out, err, json.dumps([list(map(str, event)) for event in events(sqlite)])])
    secrets = {
        "secret key": SECRET,
        "admin key": API_KEY,
        "password": PASSWORD,
        "key": mary.key,
        "token": token,
    }
    secrets |= {"hash": hashes[0], "wrong": "a-wrong-password", "typed": "a-password-typed-as-the-name"}
    secrets |= {"basic": "the-basic-password", "short": "tiny-word"}
    assert [name for name, secret in secrets.items() if secret in told] == []
    server.database.engine.dispose()
