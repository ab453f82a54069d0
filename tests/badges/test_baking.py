"""Baking: what is put in comes out again, by our hand and by others', and hostile pictures only fail."""

import io
import json
import zlib
from contextlib import suppress

import openbadges_bakery
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openbadgeslib.ob2 import OB2Verifier
from openbadgeslib.ob3 import OB3Verifier
from PIL import Image

from obms.badges import baking, drawing, images, svg
from obms.badges.baking import Badge, NotBaked
from obms.badges.images import Picture
from tests.badges import pictures
from tests.badges.pictures import chunk, png_of

TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJhIjoxfQ.c2ln"
DOCUMENT = json.dumps({"id": "https://b.example/1", "name": "データ <&> ]]> \u2028 🏅"}, ensure_ascii=False)
URL = "https://b.example/1"
PNG = Picture(media_type=images.PNG, content=pictures.raster())
SVG = Picture(media_type=images.SVG, content=pictures.PLAIN_SVG)
BADGES = [
    Badge(version="3.0", text=TOKEN),
    Badge(version="3.0", text=DOCUMENT),
    Badge(version="2.0", text=TOKEN),
    Badge(version="2.0", text=DOCUMENT, url=URL),
]


@pytest.mark.parametrize("badge", BADGES)
@pytest.mark.parametrize("picture", [PNG, SVG], ids=["png", "svg"])
def test_what_is_baked_comes_out_again(picture: Picture, badge: Badge) -> None:
    baked = baking.bake(picture, badge)
    found = baking.unbake(baked)
    assert (found.version, found.text) == (badge.version, badge.text)
    assert images.judge(baked).media_type == picture.media_type


@pytest.mark.parametrize("picture", [PNG, SVG], ids=["png", "svg"])
def test_others_take_out_what_we_have_put_in(picture: Picture) -> None:
    take = (
        (OB3Verifier.extract_token_from_png, OB2Verifier.extract_token_from_png)
        if picture is PNG
        else (OB3Verifier.extract_token_from_svg, OB2Verifier.extract_token_from_svg)
    )
    for badge in BADGES:
        baked = baking.bake(picture, badge)
        # Of a hosted assertion in an SVG others are content with the address.
        expected = URL if badge.url and picture is SVG else badge.text
        assert take[badge.version == "2.0"](baked) == expected
        if badge.version == "2.0":
            assert openbadges_bakery.unbake(io.BytesIO(baked)) == expected


def test_pillow_reads_the_text_of_a_baked_png() -> None:
    with Image.open(io.BytesIO(baking.bake(PNG, BADGES[1]))) as image:
        image.load()
        assert image.text["openbadgecredential"] == DOCUMENT  # type: ignore[attr-defined]
    with Image.open(io.BytesIO(baking.bake(PNG, BADGES[3]))) as image:
        image.load()
        assert image.text["openbadges"] == DOCUMENT  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:rfc3986")
def test_we_take_out_what_others_have_put_in() -> None:
    assert baking.unbake(pictures.png_with_text("openbadges", DOCUMENT)).text == DOCUMENT
    for content in (PNG.content, SVG.content):
        with openbadges_bakery.bake(io.BytesIO(content), json.dumps({"id": URL, "a": "é"})) as made:
            found = baking.unbake(made.read())
        assert (found.version, json.loads(found.text)) == ("2.0", {"id": URL, "a": "é"})


@pytest.mark.parametrize("picture", [PNG, SVG], ids=["png", "svg"])
def test_a_picture_that_holds_a_badge_already_holds_only_the_new_one(picture: Picture) -> None:
    content = picture.content
    for badge in BADGES:
        content = baking.bake(Picture(media_type=picture.media_type, content=content), badge)
    assert baking.unbake(content).version == "2.0"
    assert content.count(b"openbadgecredential") == content.count(b"openbadges:credential") == 0


@pytest.mark.parametrize(
    "content",
    [
        PNG.content,
        SVG.content,
        pictures.raster("JPEG"),
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"<",
        pictures.LAUGHS,
        pictures.EXTERNAL,
        b"<svg>" * 3000,
        png_of(4, 4, chunk(b"iTXt", b"openbadges\0\1\0\0\0" + zlib.compress(b"a" * 50_000_000))),
        png_of(4, 4, chunk(b"iTXt", b"openbadges\0\1\0\0\0no zlib")),
        png_of(4, 4, chunk(b"iTXt", b"openbadges\0\0\0\0\0" + b"\xff\xfe")),
        png_of(4, 4, chunk(b"iTXt", b"openbadgecredential\0\0\0\0\0" + b"a" * 300_000)),
        png_of(4, 4, chunk(b"iTXt", b"openbadges")),
    ],
)
def test_a_picture_without_a_sound_badge_is_not_baked(content: bytes) -> None:
    with pytest.raises(NotBaked):
        baking.unbake(content)


@given(
    st.sampled_from([baking.bake(picture, badge) for picture in (PNG, SVG) for badge in BADGES]),
    st.integers(0, 10_000),
    st.binary(max_size=20),
)
def test_a_mutated_badge_comes_out_or_is_not_there(baked: bytes, at: int, put: bytes) -> None:
    place = at % len(baked)
    with suppress(NotBaked):
        baking.unbake(baked[:place] + put + baked[place + len(put) :])


@given(st.text(max_size=200))
def test_a_badge_is_drawn_for_any_name(name: str) -> None:
    drawn = drawing.in_form(None, images.SVG, name)
    svg.screen(drawn.content)
    assert baking.unbake(baking.bake(drawn, BADGES[1])).text == DOCUMENT


@pytest.mark.parametrize("name", ["First aid", "Höhere Mathematik", "データ", "a" * 500, "\x01"])
def test_a_png_is_drawn_for_any_name(name: str) -> None:
    assert images.judge(drawing.draw_png(name)).media_type == images.PNG
    assert drawing.draw_png(name) == drawing.draw_png(name)


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "WEBP", "PNG"])
def test_a_picture_of_another_form_is_shown_in_the_one_that_is_asked_for(kind: str) -> None:
    picture = images.judge(pictures.raster(kind, size=(900, 300)))
    made = drawing.in_form(picture, images.SVG, "n").content
    svg.screen(made)
    assert b"data:image/png;base64," in made
    with Image.open(io.BytesIO(drawing.in_form(picture, images.PNG, "n").content)) as image:
        assert image.width == (900 if kind == "PNG" else 400)
