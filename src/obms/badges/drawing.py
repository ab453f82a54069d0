"""The picture of a badge that has none of its own, and a picture in the form that is asked for."""

import base64
import hashlib
import io
import math
import textwrap
from functools import lru_cache
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from obms.badges import images
from obms.badges.images import Picture

if TYPE_CHECKING:
    from PIL import Image

SIDE, LINES, LINE_WIDTH = 400, 3, 18
CENTRE, OUTER, INNER = (SIDE / 2, 150), 78, 34


def in_form(picture: Picture | None, media_type: str, name: str) -> Picture:
    """The picture as PNG or SVG. One is drawn, with the name, where there is none, or none as PNG."""
    if picture is not None and picture.media_type == media_type:
        return picture
    is_raster = picture is not None and picture.media_type != images.SVG
    if picture is None or not is_raster:
        drawn = draw_svg(name) if media_type == images.SVG else draw_png(name)
        return Picture(media_type=media_type, content=drawn)
    content = _to_png(picture)
    return Picture(media_type=media_type, content=_around(content) if media_type == images.SVG else content)


def _to_png(picture: Picture) -> bytes:
    """Its first frame, no larger than a badge has to be."""
    from PIL import Image  # as in images

    with Image.open(io.BytesIO(picture.content)) as image:
        image.thumbnail((SIDE, SIDE))
        return _saved(image.convert("RGBA"))


def _saved(image: "Image.Image") -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _around(content: bytes) -> bytes:
    """An SVG that shows a PNG."""
    data = base64.b64encode(content).decode()
    return _svg(f'<image width="{SIDE}" height="{SIDE}" href="data:image/png;base64,{data}"/>')


def _svg(inside: str) -> bytes:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}" height="{SIDE}">'
    )
    return f"{head}{inside}</svg>".encode()


def _lines(name: str) -> list[str]:
    """What of the name goes on the badge; XML has no place for control characters."""
    printable = "".join(character if character.isprintable() else " " for character in name)
    return textwrap.wrap(printable, LINE_WIDTH, max_lines=LINES, placeholder=" ...")


def _colour(name: str) -> tuple[int, int, int]:
    """Dark enough for white letters, and the same for the same name."""
    red, green, blue = hashlib.sha256(name.encode()).digest()[:3]
    return red // 2, green // 2, blue // 2


def _star() -> list[tuple[float, float]]:
    return [
        (
            CENTRE[0] + radius * math.sin(turn * math.pi / 5),
            CENTRE[1] - radius * math.cos(turn * math.pi / 5),
        )
        for turn, radius in enumerate([OUTER, INNER] * 5)
    ]


@lru_cache(maxsize=256)
def draw_svg(name: str) -> bytes:
    colour = "#{:02x}{:02x}{:02x}".format(*_colour(name))
    star = " ".join(f"{x:.1f},{y:.1f}" for x, y in _star())
    lines = "".join(
        f'<tspan x="{SIDE // 2}" dy="{34 if number else 0}">{escape(line)}</tspan>'
        for number, line in enumerate(_lines(name))
    )
    return _svg(
        f"<title>{escape(' '.join(_lines(name)))}</title>"
        f'<circle cx="{SIDE // 2}" cy="{SIDE // 2}" r="{SIDE // 2 - 4}" fill="{colour}"/>'
        f'<polygon points="{star}" fill="#ffd54a"/>'
        f'<text y="270" font-family="sans-serif" font-size="28" fill="#fff" text-anchor="middle">'
        f"{lines}</text>"
    )


@lru_cache(maxsize=256)
def draw_png(name: str) -> bytes:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.ellipse((4, 4, SIDE - 4, SIDE - 4), fill=_colour(name))
    draw.polygon(_star(), fill=(255, 213, 74))
    font = ImageFont.load_default(28)
    # The font that comes with Pillow has ASCII only; of any other letter it would draw an empty box.
    for number, line in enumerate(_lines(name) if name.isascii() else []):
        draw.text((SIDE / 2, 270 + 34 * number), line, fill="white", font=font, anchor="ms")
    return _saved(image)
