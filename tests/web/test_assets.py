"""Pictures over HTTP: uploaded with a key, shown to everybody, never run by a browser."""

import pytest

from tests.badges import pictures
from tests.deployment import Deployment
from tests.web.conftest import Client
from tests.web.test_refusals import _user

ON_ONE_KIND = pytest.mark.parametrize("deployment", ["sqlite"], indirect=True)


def test_a_picture_is_uploaded_shown_and_cached(client: Client) -> None:
    content = pictures.raster()
    answer = client.ask("POST", "/assets", files={"file": ("../../x.png", content, "text/html")})
    assert answer.status_code == 201, answer.text
    asset = answer.json()
    assert (asset["mediaType"], asset["size"]) == ("image/png", len(content))
    assert answer.headers["Location"] == asset["url"]
    shown = client.get("/assets/" + asset["name"], key=None)
    assert (shown.content, shown.headers["content-type"]) == (content, "image/png")
    assert "immutable" in shown.headers["Cache-Control"]
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
    again = client.get("/assets/" + asset["name"], headers={"If-None-Match": shown.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    for kind in ("", "application/json", "application/x-www-form-urlencoded", "image/gif"):
        headers = {"Content-Type": kind} if kind else {}
        assert client.ask("POST", "/assets", content=content, headers=headers).status_code == 200
    assert client.ask("POST", "/assets", content=content, key=None).status_code == 401


@ON_ONE_KIND
def test_an_svg_is_shown_in_a_sandbox(client: Client) -> None:
    asset = client.ask("POST", "/assets?name=emblem", content=pictures.PLAIN_SVG).json()
    assert asset["name"] == "emblem.svg"
    shown = client.get("/assets/emblem.svg", key=None)
    assert shown.headers["content-type"] == "image/svg+xml"
    assert "sandbox" in shown.headers["Content-Security-Policy"]


def test_a_name_means_one_picture_for_ever(client: Client) -> None:
    files = {"image": ("a", pictures.raster(size=(5, 5)))}
    for status in (201, 200):
        assert client.ask("POST", "/assets", data={"name": "logo"}, files=files).status_code == status
    other = client.ask("POST", "/assets?name=logo", content=pictures.raster(size=(6, 6)))
    assert other.status_code == 409
    assert client.ask("POST", "/assets?name=../a", content=pictures.raster()).status_code == 400


@ON_ONE_KIND
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"no picture", 415),
        (pictures.PIXEL_BOMB, 400),
        (pictures.ZTXT_BOMB, 400),
        (pictures.LAUGHS, 400),
        (pictures.SVG.format("<script/>").encode(), 400),
        (pictures.raster() + b"\0" * 5_300_000, 413),
        (b"\0" * 8_500_000, 413),
    ],
    ids=["nothing", "text", "pixels", "zTXt", "laughs", "script", "5.3 MB", "8.5 MB"],
)
def test_what_is_no_sound_picture_is_refused(client: Client, content: bytes, status: int) -> None:
    answer = client.ask("POST", "/assets", content=content)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@ON_ONE_KIND
def test_a_broken_form_is_a_400(client: Client) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for body in (b"--x\r\nContent-Disposition: form-data\r\n\r\n", b"--y", b"", b"--x--"):
        assert client.ask("POST", "/assets", content=body, headers=headers).status_code == 400
    two = {"a": ("a", pictures.raster()), "b": ("b", pictures.raster())}
    assert client.ask("POST", "/assets", files=two).status_code == 400


@ON_ONE_KIND
def test_only_who_edits_achievements_uploads(client: Client, deployment: Deployment) -> None:
    issuer = client.add_issuer().rpartition(":")[2]
    staff = _user(deployment, deployment.application.site, "staff", issuer)
    assert client.ask("POST", "/assets", content=pictures.raster(), key=staff).status_code == 403
