"""1EdTech's validator core on badges of Open Badges 2.0: hosted, baked and signed."""

from typing import Any

import pytest

from obms.badges import credentials, keys
from obms.databases import writing
from obms.server import Server
from tests.conformance.conftest import SITE
from tests.conformance.judge import Judge
from tests.web.conftest import ISSUER, Client, order

PERSON = "zoë@example.org"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'


@pytest.fixture
def whole(client: Client) -> str:
    """An assertion that says all that it may, of a badge class and an issuer that do too."""
    picture = client.ask("POST", "/assets", files={"file": ("p.svg", SVG, "image/svg+xml")})
    assert picture.status_code == 201, picture.text
    image = {"id": picture.json()["url"], "type": "Image", "caption": "Ein Bild"}
    issuer = client.post("/v2/issuers", {**ISSUER, "description": "Prüft.", "image": image}).json()["id"]
    body: dict[str, Any] = {
        "name": "データ分析",
        "description": "表計算と統計 📊",
        "criteria": {"id": "https://school.example.org/criteria", "narrative": "Bestehen"},
        "image": image,
        "issuer": issuer,
        "tags": ["a", "é"],
        "alignment": [{"targetName": "ESCO", "targetUrl": "https://esco.example.org/1", "targetCode": "1.2"}],
        "version": "2.1",
        "previousVersion": "https://other.example.org/1",
        "achievementType": "Certificate",
        "related": [{"id": "https://other.example.org/2", "inLanguage": "de", "version": "1"}],
    }
    badge = client.post("/v2/achievements", body)
    assert badge.status_code == 201, badge.text
    assertion = client.post(
        "/v2/credentials",
        order(
            badge.json()["id"],
            expires="2046-01-01T00:00:00Z",
            narrative="Gut gemacht 🏅",
            evidence=[{"id": "https://work.example.org/1", "name": "n", "genre": "g"}, {"narrative": "ليل"}],
        ),
    )
    assert assertion.status_code == 201, assertion.text
    return str(assertion.json()["id"])


def test_the_judge_finds_a_hosted_badge_valid_and_its_recipient_right(judge: Judge, whole: str) -> None:
    verdict = judge.text(whole, {"email": PERSON})
    assert (verdict.valid, verdict.messages) == (True, []), str(verdict)
    assert verdict.recipient == {"email": PERSON}
    kinds = {address.removeprefix(SITE).split("/")[2] for address in verdict.fetched}
    assert {"assertions", "achievements", "issuers", "keys"} <= kinds


def test_the_judge_finds_the_plainest_badge_valid(judge: Judge, client: Client) -> None:
    picture = client.ask("POST", "/assets", files={"file": ("p.svg", SVG, "image/svg+xml")}).json()["url"]
    id = client.issue(client.add_achievement(image=picture))
    verdict = judge.text(f"{SITE}/v2/assertions/{id}")
    assert (verdict.valid, verdict.messages) == (True, []), str(verdict)


def test_the_judge_says_no_to_another_recipient_and_to_a_revoked_badge(
    judge: Judge, client: Client, whole: str
) -> None:
    stranger = judge.text(whole, {"email": "somebody@example.org"})
    assert not stranger.valid
    assert "VERIFY_RECIPIENT_IDENTIFIER" in str(stranger)
    client.post(f"/credentials/{whole.rpartition('/')[2]}/revoke")
    assert not judge.text(whole).valid


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_judge_finds_the_baked_badge_valid(judge: Judge, client: Client, whole: str, form: str) -> None:
    path = whole.removeprefix(SITE)
    picture = client.get(f"{path}/image?format={form}", key=None)
    verdict = judge.picture(picture.content, {"email": PERSON})
    assert (verdict.valid, verdict.messages) == (True, []), str(verdict)
    assert whole in verdict.fetched


def test_the_judge_finds_the_signed_badge_valid_until_it_is_revoked(
    judge: Judge, client: Client, whole: str
) -> None:
    path = whole.removeprefix(SITE)
    token = client.get(f"{path}?format=jws", key=None).text
    verdict = judge.text(token, {"email": PERSON})
    assert (verdict.valid, verdict.messages) == (True, []), str(verdict)
    head, payload, signature = token.split(".")
    assert not judge.text(f"{head}.{payload}.{signature[:-8]}AAAAAAAA").valid
    client.post(f"/credentials/{whole.rpartition('/')[2]}/revoke")
    assert not judge.text(token).valid


def test_the_judge_finds_badges_valid_after_a_change_of_keys(
    judge: Judge, client: Client, whole: str
) -> None:
    path = whole.removeprefix(SITE)
    before = client.get(f"{path}?format=jws", key=None).text
    server: Server = client.app.state.server
    with writing(server.database.engine) as connection:
        kept = credentials.find(connection, whole.rpartition("/")[2])
        keys.rotate(connection, server.site, kept.issuer_id, keys.RSA)
    after = client.get(f"{path}?format=jws", key=None).text
    for badge in (whole, after):
        verdict = judge.text(badge, {"email": PERSON})
        assert (verdict.valid, verdict.messages) == (True, []), str(verdict)
    # It wants the key of a signed badge to be the only one of its issuer: the badge is fetched anew.
    assert "other than those authorized" in str(judge.text(before))
