"""Logins, sessions, API keys and HTTP Basic: what opens, what does not, and what ends it."""

import base64
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest

from obms.web import create_app
from tests.deployment import API_KEY, Deployment
from tests.security.people import PASSWORD, add_person, expired_key, revoked_key
from tests.web.conftest import ISSUER, Client

NEW_PASSWORD = "another horse, another staple"
STRANGER = {"username": "stranger", "email": "s@example.org", "password": PASSWORD}


def log_in(client: Client, name: str, password: str = PASSWORD) -> httpx.Response:
    return client.post("/auth/login", {"usernameOrEmail": name, "password": password}, key=None)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


def profile(client: Client, **more: Any) -> httpx.Response:
    return client.get("/auth/profile", **{"key": None, **more})


def test_a_user_logs_in_by_name_or_address_and_sees_the_own_profile(
    client: Client, sqlite: Deployment
) -> None:
    mary = add_person(sqlite, "mary", "admin", password=PASSWORD)
    for name in ("mary", "MARY", "mary@example.org"):
        answer = log_in(client, name)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["success"], body["user"]["id"], body["expiresIn"]) == (True, mary.id, 3600)
    assert answer.headers["cache-control"] == "no-store"
    shown = profile(client, headers=bearer(body["token"])).json()
    assert shown["user"]["roles"] == [{"role": "admin"}]
    assert "password" not in answer.text
    assert client.post("/issuers", ISSUER, key=None, headers=bearer(body["token"])).status_code == 201


def test_a_wrong_password_and_an_unknown_user_are_told_the_same(client: Client, sqlite: Deployment) -> None:
    add_person(sqlite, "mary", password=PASSWORD)
    add_person(sqlite, "keys-only")
    wrong, unknown, without = (
        log_in(client, "mary", "wrong"),
        log_in(client, "nobody"),
        log_in(client, "keys-only"),
    )
    for answer in (wrong, unknown, without):
        assert (answer.status_code, answer.json()["error"]) == (401, "Invalid credentials")
    assert {**wrong.json()} == {**unknown.json()} == {**without.json()}


def test_a_login_of_nobody_takes_as_long(client: Client, sqlite: Deployment) -> None:
    add_person(sqlite, "mary", password=PASSWORD)

    def seconds(name: str) -> float:
        # The time of this process alone: what else the machine does is not in it.
        started = time.process_time()
        log_in(client, name, "wrong")
        return time.process_time() - started

    known, unknown = (min(seconds(name) for _ in range(4)) for name in ("mary", "nobody"))
    assert known / 2 < unknown < known * 2


def test_a_new_password_ends_every_session_and_the_old_one(client: Client, sqlite: Deployment) -> None:
    mary = add_person(sqlite, "mary", password=PASSWORD)
    token = log_in(client, "mary").json()["token"]
    path = f"/users/{mary.id}/password"
    for body, status in (
        ({"newPassword": NEW_PASSWORD}, 400),
        ({"currentPassword": "wrong", "newPassword": NEW_PASSWORD}, 401),
        ({"currentPassword": PASSWORD, "newPassword": "short"}, 400),
        ({"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD}, 204),
    ):
        assert client.post(path, body, key=None, headers=bearer(token)).status_code == status
    assert profile(client, headers=bearer(token)).status_code == 401
    assert log_in(client, "mary").status_code == 401
    assert log_in(client, "mary", NEW_PASSWORD).status_code == 200


def test_a_closed_account_opens_nothing(client: Client, sqlite: Deployment) -> None:
    mary = add_person(sqlite, "mary", "admin", password=PASSWORD)
    token = log_in(client, "mary").json()["token"]
    assert client.ask("PATCH", f"/users/{mary.id}", json={"isActive": False}).json()["isActive"] is False
    assert profile(client, headers=bearer(token)).status_code == 401
    assert profile(client, key=mary.key).status_code == 401
    assert profile(client, headers=basic("mary", PASSWORD)).status_code == 401
    assert log_in(client, "mary").status_code == 401
    client.ask("PATCH", f"/users/{mary.id}", json={"isActive": True})
    assert profile(client, headers=bearer(token)).status_code == 401, "a session came back"
    assert profile(client, key=mary.key).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"exp": 1_700_000_000},
        {"aud": "something else"},
        {"sub": "00000000-0000-4000-8000-000000000000"},
        {"exp": None},
    ],
    ids=str,
)
def test_a_token_that_is_not_ours_opens_nothing(
    client: Client, sqlite: Deployment, change: dict[str, Any]
) -> None:
    add_person(sqlite, "mary", password=PASSWORD)
    token = log_in(client, "mary").json()["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    seal = sqlite.application.site.require_seal()
    right = seal.derive("session tokens 1", 32)
    assert profile(client, headers=bearer(jwt.encode(claims, right, "HS256"))).status_code == 200
    changed = {name: value for name, value in {**claims, **change}.items() if value is not None}
    for forged in (
        jwt.encode(changed, right, "HS256"),
        jwt.encode(claims, b"0" * 32, "HS256"),
        jwt.encode(claims, "", "none"),
        token[:-2],
        "nonsense",
    ):
        assert profile(client, headers=bearer(forged)).status_code == 401


def test_keys_that_ended_open_nothing(client: Client, sqlite: Deployment) -> None:
    mary = add_person(sqlite, "mary")
    assert profile(client, key=mary.key).status_code == 200
    for key in (expired_key(sqlite, mary), revoked_key(sqlite, mary), mary.key + "x", mary.key[:-1]):
        assert profile(client, key=key).status_code == 401
    assert client.ask("DELETE", f"/users/me/api-keys/{mary.key_id}", key=mary.key).status_code == 204
    assert profile(client, key=mary.key).status_code == 401


def test_a_key_is_shown_once_and_may_end(client: Client, sqlite: Deployment) -> None:
    mary = add_person(sqlite, "mary")
    body = {"description": "nightly", "expires": "2999-01-01T00:00:00Z"}
    made = client.post("/users/me/api-keys", body, key=mary.key)
    assert made.status_code == 201
    assert profile(client, key=made.json()["key"]).json()["user"]["id"] == mary.id
    listed = client.get("/users/me/api-keys", key=mary.key)
    assert {one["description"] for one in listed.json()} == {"nightly", "test"}
    assert made.json()["key"] not in listed.text
    assert "hash" not in listed.text


def test_registration_is_off_and_gives_no_right_when_it_is_on(client: Client, sqlite: Deployment) -> None:
    assert client.post("/auth/register", STRANGER, key=None).status_code == 403
    server = sqlite.application
    open_to_all = Client(app=create_app(replace(server, gate=replace(server.gate, registration=True))))
    made = open_to_all.post("/auth/register", {**STRANGER, "roles": ["admin"], "admin": True}, key=None)
    assert made.status_code == 201
    assert made.json()["user"]["roles"] == []
    token = bearer(made.json()["token"])
    assert open_to_all.post("/issuers", ISSUER, key=None, headers=token).status_code == 403
    assert open_to_all.get("/users", key=None, headers=token).status_code == 403
    for other in ({"email": "other@example.org"}, {"username": "other", "email": "S@Example.org"}):
        assert open_to_all.post("/auth/register", {**STRANGER, **other}, key=None).status_code == 409
    server.database.engine.dispose()


def test_failed_logins_are_stopped_by_client_and_by_name(sqlite: Deployment) -> None:
    mary = add_person(sqlite, "mary", password=PASSWORD)
    sqlite.environment["LOGIN_RATE_LIMIT"] = "3/day"
    server = sqlite.application
    client = Client(app=create_app(server))
    for _ in range(3):
        assert log_in(client, "mary", "wrong").status_code == 401
    for answer in (
        log_in(client, "mary"),
        profile(client, headers=basic("mary", PASSWORD)),
        log_in(client, "x"),
    ):
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0
    assert profile(client, key=mary.key).status_code == 200, "a key is not a login"
    server.database.engine.dispose()


def test_the_environment_names_keys_and_users(sqlite: Deployment) -> None:
    mary = add_person(sqlite, "mary", "admin")
    closed, gone = add_person(sqlite, "closed", "admin"), add_person(sqlite, "gone")
    sqlite.environment |= {
        "AUTH_API_KEY_MARY": "key-of-mary:mary:Nightly: import",
        "AUTH_API_KEY_ROOT": "key-of-root:admin:The operator",
        "AUTH_API_KEY_NOBODY": "key-of-nobody:nobody:No user",
        "AUTH_API_KEY_GONE": f"key-by-id:{gone.id}:Deleted",
        "AUTH_API_KEY_GONE_TOO": "key-by-name:gone:Deleted",
        "AUTH_API_KEY_CLOSED": f"key-of-closed:{closed.id}:Closed",
        "AUTH_BASIC_AUTH_ROOT": "pass:word:root-user:admin",
        "AUTH_BASIC_AUTH_OTHER": "other:mary:viewer",
    }
    server = sqlite.application
    client = Client(app=create_app(server))
    client.ask("PATCH", f"/users/{closed.id}", json={"isActive": False})
    assert profile(client, key="key-of-mary").json()["user"]["id"] == mary.id
    assert client.post("/issuers", ISSUER, key="key-of-mary").status_code == 201
    assert client.post("/issuers", ISSUER, key="key-of-root").status_code == 201
    assert client.post("/issuers", ISSUER, key="key-of-nobody").status_code == 201
    for name, id in {"by-id": gone.id, "by-name": "gone"}.items():
        assert client.ask("DELETE", f"/users/{gone.id}").status_code in (204, 404), name
        assert profile(client, key=f"key-{name}").status_code == 401, id
    assert profile(client, key="key-of-closed").status_code == 401
    assert client.post("/issuers", ISSUER, key=None, headers=basic("root", "pass:word")).status_code == 201
    assert profile(client, headers=basic("Other", "other")).json()["user"]["id"] == mary.id
    for name, password in (("root", "other"), ("other", "pass:word"), ("", ""), ("a\x00", "b")):
        assert profile(client, headers=basic(name, password)).status_code == 401
    assert profile(client, key=API_KEY).json()["user"]["roles"] == [{"role": "admin"}]
    assert "pass:word" not in repr(server.gate)
    server.database.engine.dispose()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTH_API_KEY_X", "only-a-key"),
        ("AUTH_BASIC_AUTH_X", "hunter2:user"),
        ("RATE_LIMIT", "fast"),
        ("TRUSTED_PROXIES", "the proxy"),
    ],
)
def test_a_wrong_setting_is_told_without_its_secret(sqlite: Deployment, name: str, value: str) -> None:
    answer = sqlite.obms("migrate", **{name: value})
    assert (answer.code, name in answer.err) == (2, True), answer.err
    if "AUTH" in name:
        assert value not in answer.err


def test_a_session_is_as_long_as_its_setting_says(sqlite: Deployment) -> None:
    add_person(sqlite, "mary", password=PASSWORD)
    sqlite.environment["AUTH_TOKEN_LIFETIME"] = "5m"
    server = sqlite.application
    assert server.gate.session == timedelta(minutes=5)
    token = log_in(Client(app=create_app(server)), "mary").json()["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert 299 <= claims["exp"] - claims["iat"] <= 301
    server.database.engine.dispose()
