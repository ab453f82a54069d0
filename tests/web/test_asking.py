"""How others ask: by HEAD, with weighed types, with ids in each spelling, from pages elsewhere, and again."""

import pytest
from fastapi import Request

from obms.web.accepting import prefers
from tests.deployment import Deployment
from tests.web.conftest import Client

TOKEN = "application/vc+jwt"


@pytest.fixture
def deployment(sqlite: Deployment) -> Deployment:
    """The kind of database does not matter here."""
    return sqlite


def path_of(url: object) -> str:
    return "/" + str(url).split("/", 3)[3]


def test_head_is_answered_as_get_is_without_the_body(client: Client) -> None:
    """RFC 9110, section 9.3.2."""
    issuer = client.add_issuer().rpartition(":")[2]
    id = client.issue(proof="data-integrity")
    entry = client.get(f"/credentials/{id}").json()["credentialStatus"]
    for path in (
        *("/", "/version", "/.well-known/jwks.json", f"/issuers/{issuer}", f"/issuers/{issuer}/did.json"),
        *(f"/credentials/{id}", f"/v2/assertions/{id}", f"/credentials/{id}/image", f"/credentials/{id}/"),
        *(path_of(entry["statusListCredential"]), "/issuers/x", "/credentials"),
    ):
        wanted, answer = client.get(path, key=None), client.ask("HEAD", path, key=None)
        assert (answer.status_code, answer.content) == (wanted.status_code, b""), path
        assert wanted.content, path
        for name in ("content-type", "content-length", "etag", "vary", "link"):
            assert answer.headers.get(name) == wanted.headers.get(name), (path, name)
    assert client.ask("HEAD", "/vc/credentials/verify").status_code == 405


@pytest.mark.parametrize(
    ("accept", "is_token"),
    [
        *(
            (TOKEN, True),
            (TOKEN.upper(), True),
            (f"{TOKEN}, */*", True),
            (f"{TOKEN}, application/json", True),
        ),
        (f"application/json;q=0.1, {TOKEN};q=0.9", True),
        (f"text/html, {TOKEN}; q=0.5", True),
        *((f"{TOKEN};q=0", False), (f"{TOKEN};q=x", False), ("application/vc+jwt-other", False)),
        (f"application/json, {TOKEN};q=0.5", False),
        (f"application/vc, {TOKEN};q=0.9", False),
        (f"application/ld+json, {TOKEN};q=0.9", False),
        *(("*/*", False), ("application/*", False), ("application/ld+json", False), ("", False)),
    ],
)
def test_the_type_that_weighs_most_is_given(one: Client, accept: str, *, is_token: bool) -> None:
    id = one.issue(proof="data-integrity")
    url = one.get(f"/credentials/{id}").json()["credentialStatus"]["statusListCredential"]
    for path in (f"/credentials/{id}", path_of(url)):
        answer = one.get(path, key=None, headers={"Accept": accept})
        assert (answer.headers["content-type"] == TOKEN) is is_token, path
        assert answer.headers["vary"] == "Accept"


def test_accept_headers_of_one_request_count_together() -> None:
    names = (b"application/json;q=0.1", TOKEN.encode())
    scope = {"type": "http", "headers": [(b"accept", name) for name in names]}
    assert prefers(Request(scope), TOKEN)
    assert not prefers(Request({**scope, "headers": scope["headers"][:1]}), TOKEN)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"),
        ("text/html;q=0, */*", "application/json"),
        ("application/json, text/html;q=0.5", "application/json"),
        ("*/*", "application/json"),
    ],
)
def test_the_front_door_is_a_page_for_who_prefers_one(one: Client, accept: str, kind: str) -> None:
    answer = one.get("/", key=None, headers={"Accept": accept})
    assert (answer.headers["content-type"], answer.headers["vary"]) == (kind, "Accept")


def test_a_slash_at_the_end_changes_nothing(one: Client) -> None:
    """A redirect would name the host that a proxy asks, without its TLS."""
    id = one.issue()
    for path in (f"/credentials/{id}", "/issuers", f"/credentials/{id}/verify", "/.well-known/did.json"):
        wanted, answer = one.get(path, key=None), one.get(path + "/", key=None)
        assert answer.status_code == wanted.status_code, path
        assert answer.headers["content-type"] == wanted.headers["content-type"]
    assert one.post("/issuers/", {"name": "Academy", "url": "https://a.example"}).status_code == 201
    assert one.post(f"/credentials/{id}/revoke/").status_code == 200


def test_an_id_is_found_in_each_of_its_spellings(one: Client) -> None:
    issuer = one.add_issuer()
    bare = issuer.rpartition(":")[2]
    for name in (
        *(bare, bare.upper(), f"urn:uuid:{bare}", f"urn%3Auuid%3A{bare}"),
        *(issuer, issuer.replace("%", "%25"), issuer.replace("%", "%25").replace(":", "%3A")),
    ):
        answer = one.get(f"/issuers/{name}", key=None)
        assert (answer.status_code, answer.json()["id"]) == (200, issuer), name
    for name in ("%00", "%FF", f"{bare}%20", "..%2Fissuers", "%F0%9F%93%8A"):
        assert one.get(f"/issuers/{name}", key=None).status_code == 404, name


def test_a_page_elsewhere_may_ask_and_read_what_it_needs(one: Client) -> None:
    origin = {"Origin": "https://viewer.example"}
    id = one.issue()
    for method, path, header in (
        ("GET", f"/credentials/{id}", "accept, if-none-match"),
        ("POST", "/verify", "content-type"),
        ("POST", "/credentials", "content-type, x-api-key"),
    ):
        asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": header}
        answer = one.ask("OPTIONS", path, key=None, headers=origin | asked)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*"), path
        assert method in answer.headers["access-control-allow-methods"]
    for path in (f"/credentials/{id}", f"/credentials/{id}/image", "/.well-known/jwks.json", "/nothing"):
        assert one.get(path, key=None, headers=origin).headers["access-control-allow-origin"] == "*", path
    varied = one.get(f"/credentials/{id}?format=json", key=None, headers=origin).headers["vary"]
    assert "Accept" in varied


def test_who_asks_again_is_told_that_nothing_changed(one: Client) -> None:
    id = one.issue()
    path = f"/credentials/{id}/image"
    tag = one.get(path, key=None).headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = one.get(path, key=None, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag), known
    assert one.get(path, key=None, headers={"If-None-Match": '"other"'}).status_code == 200
