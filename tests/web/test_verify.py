"""POST /verify: our own badges without the network, and those of another server over it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from obms.badges.fetching import Fetcher
from obms.databases import writing
from obms.schema import credentials, status_entries
from obms.server import Server
from obms.web import create_app
from tests.badges import pictures
from tests.badges.foreigners import Abroad, abroad
from tests.deployment import Deployment
from tests.web.conftest import Client

ON_ONE_KIND = pytest.mark.parametrize("deployment", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Abroad]:
    with abroad(tmp_path_factory.mktemp("abroad")) as found:
        yield found


@pytest.fixture
def verifier(deployment: Deployment, elsewhere: Abroad) -> Iterator[Client]:
    """A server that has issued nothing, and may ask the other one."""
    deployment.environment["FETCH_ALLOWED_ORIGINS"] = elsewhere.server.address
    server: Server = deployment.application
    yield Client(app=create_app(server))
    server.database.engine.dispose()


def verify(client: Client, **sent: Any) -> Any:
    answer = client.ask("POST", "/verify", key=None, **sent)
    assert answer.status_code == 200, answer.text
    return answer.json()


def forms(get: Any, id: str) -> dict[str, httpx.Response]:
    """One badge in every form that it is given out in."""
    return {
        "3.0": get(f"/credentials/{id}"),
        "3.0 png": get(f"/credentials/{id}/image?format=png"),
        "3.0 svg": get(f"/v3/credentials/{id}/image?format=svg"),
        "2.0 hosted": get(f"/v2/assertions/{id}"),
        "2.0 signed": get(f"/v2/assertions/{id}?format=jws"),
        "2.0 png": get(f"/v2/assertions/{id}/image?format=png"),
        "2.0 svg": get(f"/v2/assertions/{id}/image?format=svg"),
    }


def test_our_own_badges_are_verified_in_every_form(client: Client) -> None:
    for proof in ("jwt", "data-integrity"):
        id = client.issue(proof=proof)
        sent = forms(client.get, id)
        if proof == "jwt":
            sent["3.0"] = client.get(f"/credentials/{id}?format=jwt")
        for form, found in sent.items():
            verdict = verify(client, content=found.content)
            assert verdict["isValid"], (form, verdict)
            assert verdict["version"] == form[:3]
            assert [check["ok"] for check in verdict["checks"]] == [True] * len(verdict["checks"])
        client.post(f"/credentials/{id}/revoke")
        for form, found in sent.items():
            verdict = verify(client, content=found.content)
            assert (verdict["isValid"], verdict["isRevoked"]) == (False, True), (form, verdict)
            assert verdict["errorCode"] == "CREDENTIAL_REVOKED"


@ON_ONE_KIND
@pytest.mark.parametrize("named", ["one", "both"])
def test_a_suspended_badge_of_ours_is_told_whatever_places_it_names(
    deployment: Deployment, named: str
) -> None:
    """Whoever shows it; a badge from before names both, and is judged by a server that names one."""
    deployment.environment["CREDENTIAL_STATUS_ENTRIES"] = named
    issuer = deployment.application
    ids = {proof: Client(app=create_app(issuer)).issue(proof=proof) for proof in ("data-integrity", "jwt")}
    deployment.environment["CREDENTIAL_STATUS_ENTRIES"] = "one"
    server = deployment.application
    client = Client(app=create_app(server))
    token = client.get(f"/credentials/{ids['jwt']}?format=jwt")
    document = client.get(f"/credentials/{ids['data-integrity']}")
    assert isinstance(document.json()["credentialStatus"], list) is (named == "both")
    sent: list[tuple[str, bytes, Any]] = [
        (ids["jwt"], token.content, token.text),
        (ids["data-integrity"], document.content, document.json()),
    ]
    for id, content, held in sent:
        assert verify(client, content=content)["isValid"]
        client.post(f"/credentials/{id}/suspend")
        verdict = verify(client, content=content)
        assert (verdict["isSuspended"], verdict["errorCode"]) == (True, "CREDENTIAL_SUSPENDED")
        assert client.get(f"/credentials/{id}/verify", key=None).json()["isSuspended"]
        told = client.post("/vc/credentials/verify", {"verifiableCredential": held}, key=None).json()
        assert [error["detail"] for error in told["errors"]] == ["set for suspension"]
        client.post(f"/credentials/{id}/unsuspend")
        assert verify(client, content=content)["isValid"]
    for each in (issuer, server):
        each.database.engine.dispose()


@ON_ONE_KIND
def test_a_badge_of_ours_that_is_not_known_any_more_is_not_said_to_hold(
    client: Client, deployment: Deployment
) -> None:
    """It names no place where it is suspended, so only its row could tell."""
    id = client.issue(proof="data-integrity")
    content = client.get(f"/credentials/{id}").content
    with writing(deployment.database.engine) as connection:
        connection.execute(sa.delete(credentials).where(credentials.c.id == id))
        connection.execute(sa.delete(status_entries).where(status_entries.c.credential_id == id))
    verdict = verify(client, content=content)
    assert (verdict["isValid"], verdict["errorCode"]) == (False, "STATUS_UNKNOWN")


@ON_ONE_KIND
def test_the_badges_of_another_server_are_verified_over_http(verifier: Client, elsewhere: Abroad) -> None:
    id = elsewhere.client.issue(proof="data-integrity")
    token = elsewhere.client.issue(proof="jwt")
    sent = forms(elsewhere.client.get, id)
    sent["3.0 token"] = elsewhere.client.get(f"/credentials/{token}?format=jwt")
    for form, found in sent.items():
        verdict = verify(verifier, content=found.content)
        assert verdict["isValid"], (form, verdict)
    for path in (f"/credentials/{id}", f"/credentials/{id}/image", f"/v2/assertions/{id}/image?format=svg"):
        verdict = verify(
            verifier, json={"url": elsewhere.server.address + path, "recipient": "zoë@example.org"}
        )
        assert verdict["isValid"], verdict
    issuer = sent["3.0"].json()["issuer"]["id"]
    assert any(f"/issuers/{issuer.rpartition(':')[2]}/did.json" in path for path in elsewhere.server.asked)
    elsewhere.client.post(f"/credentials/{id}/revoke")
    for form, found in sent.items():
        verdict = verify(verifier, content=found.content)
        assert verdict["isRevoked"] is (form != "3.0 token"), (form, verdict)


@ON_ONE_KIND
def test_a_hosted_assertion_is_what_stands_at_its_address(verifier: Client, elsewhere: Abroad) -> None:
    id = elsewhere.client.issue(expires="2046-01-01T00:00:00Z")
    sound = json.loads(elsewhere.text(f"/v2/assertions/{id}"))
    other = elsewhere.client.issue()
    badge = json.loads(elsewhere.text(f"/v2/assertions/{other}"))["badge"]
    changes: list[dict[str, Any]] = [
        {"recipient": sound["recipient"] | {"identity": "eve@example.org", "hashed": False}},
        {"badge": badge},
        {"issuedOn": "2025-01-01T00:00:00Z"},
        {"expires": "2056-01-01T00:00:00Z"},
        {"expires": None},
        {"id": f"{elsewhere.server.address}/v2/assertions/{other}"},
        {"verification": {"type": "SignedBadge"}},
    ]
    assert verify(verifier, json=sound)["isValid"]
    for change in changes:
        verdict = verify(verifier, json=sound | change)
        assert not verdict["isValid"], change
        assert not verdict["hasValidSignature"], change


@ON_ONE_KIND
def test_without_leave_another_server_on_this_machine_is_not_asked(
    deployment: Deployment, elsewhere: Abroad
) -> None:
    server = deployment.application
    client = Client(app=create_app(replace(server, fetcher=Fetcher())))
    content = elsewhere.text(f"/credentials/{elsewhere.client.issue(proof='data-integrity')}")
    before = len(elsewhere.server.asked)
    verdict = verify(client, content=content)
    assert (verdict["isValid"], verdict["errorCode"]) == (False, "ISSUER_KEY_NOT_FOUND")
    for url in (
        f"{elsewhere.server.address}/v2/assertions/1",
        "http://169.254.169.254/",
        "file:///etc/passwd",
    ):
        assert not verify(client, json={"url": url})["isValid"]
    assert len(elsewhere.server.asked) == before
    server.database.engine.dispose()


@ON_ONE_KIND
def test_a_badge_may_be_sent_in_many_wrappings(client: Client) -> None:
    id = client.issue(proof="jwt")
    token = client.get(f"/credentials/{id}?format=jwt").text
    baked = client.get(f"/credentials/{id}/image?format=png").content
    for sent in (
        {"content": f"  {token}\n"},
        {"json": token},
        {"content": baked, "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"json": {"credential": token}},
        {"data": {"token": token}, "files": {"x": ("", b"")}},
        {"files": {"badge": ("b.png", baked, "image/png")}},
        {"files": {"file": ("b.png", baked)}, "data": {"recipient": "zoë@example.org"}},
        {"json": {"url": f"http://localhost:3000/credentials/{id}/image"}},
    ):
        verdict = verify(client, **sent)
        assert verdict["isValid"], (sent, verdict)
        assert verdict["token"] == token
        assert verdict["credential"]["id"].endswith(id)
    wrong = verify(client, json={"credential": token, "recipient": "eve@example.org"})
    assert wrong["errorCode"] == "RECIPIENT_MISMATCH"


@ON_ONE_KIND
def test_a_request_without_a_badge_is_a_400_and_any_other_has_a_verdict(client: Client) -> None:
    for sent in ({"content": b""}, {"content": b" \n"}, {"json": {"credential": "a", "recipient": 7}}):
        assert client.ask("POST", "/verify", key=None, **sent).status_code == 400
    assert client.ask("POST", "/verify", content=b"a" * 8_500_000).status_code == 413
    for content in (
        b"\xff",
        b"{",
        b"[" * 50_000,
        b'"' + b"\\ud800" * 9 + b'"',
        pictures.ZTXT_BOMB,
        pictures.LAUGHS,
    ):
        verdict = verify(client, content=content)
        assert (verdict["isValid"], verdict["errorCode"]) == (False, "INVALID_FORMAT")


@ON_ONE_KIND
def test_while_all_slots_are_taken_the_answer_is_a_503(verifier: Client, elsewhere: Abroad) -> None:
    fetcher: Fetcher = verifier.app.state.server.fetcher
    content = elsewhere.text(f"/credentials/{elsewhere.client.issue(proof='data-integrity')}")
    taken = [fetcher.slots.acquire(blocking=False) for _ in range(20)]
    answer = verifier.ask("POST", "/verify", content=content, key=None)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    for _ in filter(None, taken):
        fetcher.slots.release()
    assert verify(verifier, content=content)["isValid"]
