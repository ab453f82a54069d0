"""Baked badges over HTTP, in both standards: they hold what is signed, and are gone when it is revoked."""

import json

import pytest

from obms.badges import baking, images
from tests.badges import pictures
from tests.web.conftest import Client


@pytest.mark.parametrize("proof", ["jwt", "data-integrity"])
def test_a_baked_badge_holds_what_is_signed_in_the_picture_of_the_achievement(
    client: Client, proof: str
) -> None:
    picture = pictures.raster(size=(33, 22))
    url = client.ask("POST", "/assets", content=picture).json()["url"]
    id = client.issue(client.add_achievement(image=url), proof=proof)
    signed = client.get(f"/credentials/{id}?format={'jwt' if proof == 'jwt' else 'json'}").text
    for path in (f"/credentials/{id}/image", f"/v3/credentials/{id}/image?format=png"):
        answer = client.get(path, key=None)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert answer.headers["Content-Disposition"] == f'inline; filename="badge-{id}.png"'
        assert baking.unbake(answer.content).text == signed
        assert answer.content.startswith(picture[:50])
    answer = client.get(f"/credentials/{id}/image?format=svg", key=None)
    assert answer.headers["content-type"] == "image/svg+xml"
    assert baking.unbake(answer.content).text == signed
    assert client.get(f"/credentials/{id}/image?format=bmp").status_code == 400


@pytest.mark.parametrize("deployment", ["sqlite"], indirect=True)
def test_the_assertion_of_2_0_is_baked_with_its_address(client: Client) -> None:
    url = client.ask("POST", "/assets", content=pictures.PLAIN_SVG).json()["url"]
    id = client.issue(client.add_achievement(image=url))
    assertion = client.get(f"/v2/assertions/{id}", key=None).json()
    for path in (f"/v2/assertions/{id}/image", f"/v2/credentials/{id}/image?format=png"):
        found = baking.unbake(client.get(path, key=None).content)
        assert found.version == "2.0"
        assert json.loads(found.text) == assertion
    baked = client.get(f"/v2/assertions/{id}/image", key=None)
    assert b'class="a"' in baked.content
    assert f'verify="{assertion["id"]}"'.encode() in baked.content


@pytest.mark.parametrize("deployment", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "image",
    [
        "https://school.example.org/badge.png",
        "http://localhost:3000/assets/nothing.png",
        "data:image/png;base64,aGFsbG8=",
        "data:image/svg+xml,%3Csvg/%3E",
    ],
)
def test_a_badge_without_a_picture_of_ours_gets_one_and_nothing_is_fetched(
    client: Client, image: str
) -> None:
    id = client.issue(client.add_achievement(image=image))
    for form in ("png", "svg"):
        baked = client.get(f"/credentials/{id}/image?format={form}", key=None).content
        assert images.judge(baked).media_type == images.PNG if form == "png" else images.SVG
        assert baking.unbake(baked).version == "3.0"


def test_a_baked_badge_is_asked_for_again_and_gone_when_it_is_revoked(client: Client) -> None:
    id = client.issue()
    first = client.get(f"/credentials/{id}/image", key=None)
    assert "no-cache" in first.headers["Cache-Control"]
    headers = {"If-None-Match": first.headers["ETag"]}
    assert client.get(f"/credentials/{id}/image", headers=headers).status_code == 304
    client.post(f"/credentials/{id}/revoke", {"reason": "Irrtum"})
    gone = client.get(f"/credentials/{id}/image", headers=headers, key=None)
    assert (gone.status_code, gone.json()["code"]) == (410, "CREDENTIAL_REVOKED")
    gone = client.get(f"/v2/assertions/{id}/image", headers=headers, key=None)
    assert (gone.status_code, gone.json()["code"]) == (410, "ASSERTION_REVOKED")
    unknown = "00000000-0000-4000-8000-000000000000"
    assert client.get(f"/credentials/{unknown}/image", key=None).status_code == 404
