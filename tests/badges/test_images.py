"""Pictures are judged by what is in them: sound ones are taken, and what is no picture only is refused."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obms.badges import images
from obms.errors import Invalid, TooLarge, UnsupportedMedia
from obms.schema import IMAGE_LIMIT
from tests.badges import pictures
from tests.badges.pictures import SVG


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("GIF", "image/gif"), ("WEBP", "image/webp")],
)
def test_a_sound_picture_is_taken_as_what_it_is(kind: str, media_type: str) -> None:
    assert images.judge(pictures.raster(kind)).media_type == media_type


@pytest.mark.parametrize(
    "inside",
    [
        "",
        '<a href="https://school.example.org/">x</a>',
        '<use href="#a"/><image href="data:image/png;base64,iVBORw0KGgo="/>',
        '<metadata xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:RDF/></metadata>',
        "<!-- a comment --><style>text { font-family: serif }</style><text>データ</text>",
    ],
)
def test_a_picture_in_svg_is_taken(inside: str) -> None:
    for head in ("", '<?xml version="1.0" encoding="UTF-8"?>\n', "\ufeff", "<!DOCTYPE svg>"):
        assert images.judge((head + SVG.format(inside)).encode()).media_type == "image/svg+xml"


@pytest.mark.parametrize(
    ("inside", "found"),
    [
        ("<script>alert(1)</script>", "element <script>"),
        ('<x:SCRIPT xmlns:x="http://www.w3.org/2000/svg"/>', "element <script>"),
        ("<foreignObject><b/></foreignObject>", "element <foreignobject>"),
        ('<g><p xmlns="http://www.w3.org/1999/xhtml"/></g>', "element <p>"),
        ('<rect onload="alert(1)"/>', "event handler onload"),
        ('<a href="java\tscript:alert(1)">x</a>', "reference to javascript:"),
        ('<a xmlns:l="http://www.w3.org/1999/xlink" l:href="javascript:alert(1)"/>', "javascript:"),
        ('<image href="https://tracker.example/1.png"/>', "reference to https://tracker"),
        ('<image href="data:image/svg+xml;base64,PHN2Zy8+"/>', "reference to data:image/svg"),
        ('<use href="//elsewhere.example/a.svg#b"/>', "reference to //elsewhere"),
        ('<animate attributeName="href" to="javascript:alert(1)"/>', "animation of href"),
        ('<set attributeName="onclick" to="alert(1)"/>', "animation of onclick"),
        ("<style>@import 'https://e.example/a.css';</style>", "@import"),
        ("<style>a { fill: u\\72l(x) }</style>", "in its style"),
        ('<rect style="background:url(https://e.example/)"/>', "reference to https"),
        ('<rect fill="url( &quot;https://e.example/&quot;)"/>', "reference to https"),
        ("<?xml-stylesheet href='a.css'?>", "processing instruction xml-stylesheet"),
        ("<g>" * 70 + "</g>" * 70, "levels"),
        ("<g/>" * 20_001, "elements"),
    ],
)
def test_what_runs_or_loads_or_grows_in_an_svg_is_refused_and_said(inside: str, found: str) -> None:
    with pytest.raises(Invalid) as refused:
        images.judge(SVG.format(inside).encode())
    assert found in refused.value.fields["file"][0]


@pytest.mark.parametrize(
    "content",
    [
        pictures.LAUGHS,
        pictures.EXTERNAL,
        b"<svg/>",
        b"<html/>",
        b"<",
        SVG.format("").encode()[:-3],
        b'<?xml version="1.0" encoding="cp500"?>' + SVG.format("").encode(),
        b"<?xml version='1.0' encoding='utf-7'?>" + SVG.format("").encode(),
        SVG.format("\xff").encode("latin-1"),
        pictures.PIXEL_BOMB,
        pictures.raster(size=(9000, 2)),
        pictures.ZTXT_BOMB,
        pictures.raster()[:60],
        pictures.raster("JPEG")[:200],
        pictures.raster("WEBP")[:40],
        b"GIF89a",
        b"",
    ],
)
def test_bombs_and_broken_pictures_are_refused(content: bytes) -> None:
    with pytest.raises(Invalid):
        images.judge(content)


@pytest.mark.parametrize(
    "make",
    [partial(pictures.raster, size=(3000, 3000)), partial(pictures.animated, 70, (1000, 1000))],
    ids=["large", "long"],
)
def test_pictures_that_are_too_large_or_too_long_are_refused(make: Callable[[], bytes]) -> None:
    """Made here: as arguments they would be made anew in each process that runs tests."""
    with pytest.raises(Invalid):
        images.judge(make())


def test_what_is_no_picture_is_not_taken_whatever_it_is_called() -> None:
    for content in (b"%PDF-1.7", b"BM0000", b"\x1f\x8b\x08", b"plain", "ÿþ<svg".encode("utf-16")):
        with pytest.raises(UnsupportedMedia):
            images.judge(content)
    with pytest.raises(TooLarge):
        images.judge(b"\x89PNG\r\n\x1a\n" + b"\0" * IMAGE_LIMIT)


@given(
    st.sampled_from(
        [pictures.raster(kind) for kind in ("PNG", "JPEG", "GIF", "WEBP")] + [pictures.PLAIN_SVG]
    ),
    st.integers(0, 10_000),
    st.binary(max_size=20),
)
def test_a_mutated_picture_is_taken_or_refused_and_nothing_else(sound: bytes, at: int, put: bytes) -> None:
    place = at % len(sound)
    with suppress(Invalid, UnsupportedMedia):
        images.judge(sound[:place] + put + sound[place + len(put) :])


def test_a_data_url_is_read_and_any_other_url_is_not() -> None:
    assert images.read_data_url("data:image/png;charset=x;base64,aGFs\nbG8=") == b"hallo"
    for url in ("data:image/png,abc", "data:;base64,a", "https://school.example.org/", "data:;base64,ü"):
        with pytest.raises(Invalid):
            images.read_data_url(url)
