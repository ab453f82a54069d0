"""What comes in is bounded, and what goes out says nothing of the inside (OWASP API4, API8)."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obms.schema import metadata
from obms.web import create_app
from obms.web.envelope import BODY_LIMIT, DEPTH_LIMIT, is_deep
from tests.deployment import Deployment
from tests.web.conftest import ISSUER, Client

JSON = {"Content-Type": "application/json"}


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_a_body_that_is_too_long_is_refused_before_it_is_read(client: Client) -> None:
    honest = client.ask("POST", "/issuers", content=b" " * (BODY_LIMIT + 1))
    declared = client.ask("POST", "/issuers", content=b"{}", headers={"Content-Length": "99999999999"})
    assert (honest.status_code, declared.status_code) == (413, 413)
    for length in ("-1", "x", "²", "9" * 5000):
        sent = {"Content-Length": length.encode("latin-1")}
        assert 400 <= client.ask("POST", "/issuers", content=b"{}", headers=sent).status_code < 500


@pytest.mark.parametrize("depth", [DEPTH_LIMIT + 1, 100_000])
def test_a_body_that_is_nested_too_deep_is_refused(client: Client, depth: int) -> None:
    for body in (nested(depth), '{"a":' * depth + "1" + "}" * depth, '["]", ' * depth):
        answer = client.ask("POST", "/issuers", content=body, headers=JSON)
        assert (answer.status_code, "deep" in answer.text) == (400, True)


def test_a_body_in_other_spellings_of_json_is_refused(client: Client) -> None:
    for encoding in ("utf-16", "utf-32"):
        answer = client.ask("POST", "/issuers", content=json.dumps(ISSUER).encode(encoding), headers=JSON)
        assert answer.status_code == 400


def test_as_deep_as_allowed_is_read(client: Client) -> None:
    shallow = json.dumps({**ISSUER, "name": nested(200)})
    assert client.ask("POST", "/issuers", content=shallow, headers=JSON).status_code == 201
    assert "deep" not in client.ask("POST", "/issuers", content=nested(DEPTH_LIMIT), headers=JSON).text


values = st.recursive(
    st.text() | st.integers() | st.sampled_from(["[", '"', "\\", '\\"[', "{" * 70]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=120,
)


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


@given(values, st.integers(0, DEPTH_LIMIT + 3), st.booleans())
def test_the_depth_is_that_of_the_json(value: Any, more: int, ascii_only: bool) -> None:
    for _ in range(more):
        value = [value, "[[" * 40]
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert is_deep(body) == (depth_of(value) > DEPTH_LIMIT)


@pytest.mark.parametrize("body", [b'"\\', b'\\"', b'"', b"[]", b'"[', b'""[]'])
def test_no_body_takes_long_to_look_at(body: bytes) -> None:
    whole = (b"[" * (DEPTH_LIMIT - 1)) + body * (BODY_LIMIT // len(body))
    started = time.process_time()
    is_deep(whole)
    assert time.process_time() - started < 2


def test_nothing_of_the_path_or_the_query_gets_into_a_header(client: Client) -> None:
    issuer = client.add_issuer().rpartition(":")[2]
    for path in (
        "/issuers?limit=1&x=%0d%0aSet-Cookie:%20a=b",
        f"/issuers/{issuer}%0d%0aSet-Cookie:%20a=b/achievements",
        "/issuers?limit=1&x=%3E;%20rel=%22evil%22",
        "/%0d%0aSet-Cookie:%20a=b",
    ):
        answer = client.get(path)
        assert answer.status_code < 500
        assert "set-cookie" not in answer.headers
        assert all("\r" not in value and "\n" not in value for value in answer.headers.values())
        assert 'rel="evil"' not in answer.headers.get("link", "")


@pytest.mark.parametrize("dots", ["..", "%2e%2e", "..%2f", "%2e%2e%2f", "..%5c", "%252e%252e%252f"])
def test_no_path_leads_out(client: Client, dots: str) -> None:
    for path in (
        f"/assets/{dots}/{dots}/etc/passwd",
        f"/assets/{dots}etc%2fpasswd",
        f"/issuers/{dots}/users",
    ):
        answer = client.ask("GET", path, key=None)
        assert answer.status_code in (401, 404)
        assert "root:" not in answer.text


HOSTILE = [
    "' OR '1'='1",
    "1; DROP TABLE users --",
    "\x00",
    "a" * 5000,
    "../../etc/passwd",
    "{{7*7}}",
    "%s%n",
    "\ud800",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_words_are_only_words(client: Client, text: str) -> None:
    quoted = text.encode("utf-8", "surrogatepass")
    login = json.dumps({"usernameOrEmail": text, "password": text})
    answers = [
        client.get("/users/" + "".join(f"%{byte:02x}" for byte in quoted)),
        client.get("/audit", params={"actor": text.encode("utf-8", "ignore").decode()}),
        client.ask("POST", "/auth/login", content=login, headers=JSON, key=None),
        client.ask("POST", "/users", content=json.dumps({"username": text, "email": text}), headers=JSON),
        client.ask("GET", "/auth/profile", key=None, headers={"Authorization": f"Bearer {text!r}"}),
        client.ask("GET", "/auth/profile", key=None, headers={"Authorization": "Basic ////"}),
    ]
    assert all(answer.status_code < 500 for answer in answers), [answer.status_code for answer in answers]
    assert client.get("/users").headers["x-total-count"] == "0"


@contextmanager
def broken(deployment: Deployment, table: str) -> Iterator[None]:
    """A bug: a table has another form than the program thinks."""
    with deployment.database.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME COLUMN at TO moment")
    yield
    with deployment.database.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME COLUMN moment TO at")


def test_no_answer_tells_of_the_inside(client: Client, sqlite: Deployment) -> None:
    with broken(sqlite, "audit_events"):
        answer = client.get("/audit")
    assert answer.status_code >= 500
    for word in ("Traceback", "sqlite", "SELECT", "site-packages", "obms.", *metadata.tables):
        assert word not in answer.text.replace("/audit", ""), word
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "status"), [("/version", 200), ("/nothing", 404), ("/users", 401), ("/docs", 200), ("/", 200)]
)
def test_every_answer_has_the_headers_that_keep_a_browser_safe(
    client: Client, path: str, status: int
) -> None:
    answer = client.ask("GET", path, key=None, headers={"Accept": "text/html"})
    assert answer.status_code == status
    headers = answer.headers
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "server" not in headers
    assert "strict-transport-security" not in headers, "this server is not https"


def test_https_is_asked_for_where_the_server_has_it(sqlite: Deployment) -> None:
    sqlite.environment["BASE_URL"] = "https://badges.example.org"
    server = sqlite.application
    assert "strict-transport-security" in Client(app=create_app(server)).get("/version").headers
    server.database.engine.dispose()


def test_other_origins_may_read_what_the_setting_says_and_never_with_cookies(sqlite: Deployment) -> None:
    asked = {"Origin": "https://verifier.example", "Access-Control-Request-Method": "POST"}
    for setting, allowed in (
        ("*", "*"),
        ("https://verifier.example", "https://verifier.example"),
        ("https://other.example", None),
        ("none", None),
    ):
        sqlite.environment["CORS_ORIGINS"] = setting
        server = sqlite.application
        client = Client(app=create_app(server))
        for answer in (
            client.get("/version", headers=asked),
            client.ask("OPTIONS", "/issuers", headers=asked),
        ):
            assert answer.headers.get("access-control-allow-origin") == allowed
            assert "access-control-allow-credentials" not in answer.headers
        server.database.engine.dispose()
