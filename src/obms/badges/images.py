"""Pictures: judged by what is in them, kept in the database, and read back."""

# Pillow is imported where it is used: most requests are about no picture.

import base64
import binascii
import hashlib
import io
import re
import struct
import uuid
import zlib
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import png
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from obms.badges import Site, svg
from obms.errors import Conflict, Invalid, NotFound, TooLarge, UnsupportedMedia
from obms.schema import IMAGE_LIMIT, images

if TYPE_CHECKING:
    from PIL import Image

PNG, SVG, JPEG, GIF, WEBP = "image/png", "image/svg+xml", "image/jpeg", "image/gif", "image/webp"
EXTENSIONS = {PNG: "png", SVG: "svg", JPEG: "jpg", GIF: "gif", WEBP: "webp"}
FORMATS = {PNG: "PNG", JPEG: "JPEG", GIF: "GIF", WEBP: "WEBP"}
# 33 MB when it is decoded; all frames together may take eight times that, one after another.
PIXEL_LIMIT, FRAMES_PIXEL_LIMIT, SIDE_LIMIT = 8_388_608, 67_108_864, 8_192
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
DATA_URL = re.compile(r"data:[^,;]{0,100}(?:;[^,;]{0,100}){0,5};base64,", re.IGNORECASE)
# What reading a hostile picture may raise.
BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    MemoryError,
    png.Error,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture as it was uploaded, and what it really is."""

    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A kept picture; neither its name nor its content ever changes."""

    id: str
    name: str
    media_type: str
    content: bytes
    created_at: datetime


def sniff(content: bytes) -> str | None:
    """The media type that the first bytes speak of; None if they are of no picture that is taken."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if content.startswith(b"\xff\xd8\xff"):
        return JPEG
    if content.startswith((b"GIF87a", b"GIF89a")):
        return GIF
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return WEBP
    return SVG if content[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<") else None


def judge(content: bytes) -> Picture:
    """The picture, read to its end. TooLarge, UnsupportedMedia, or Invalid with what is wrong with it."""
    if len(content) > IMAGE_LIMIT:
        raise TooLarge(limit=IMAGE_LIMIT)
    if not content:
        raise Invalid(file=["is empty"])
    media_type = sniff(content)
    if media_type is None:
        raise UnsupportedMedia(detail="A picture is PNG, SVG, JPEG, GIF or WebP, and this is none of them")
    if media_type == SVG:
        svg.screen(content)
    else:
        _decode(content, FORMATS[media_type])
    return Picture(media_type=media_type, content=content)


def _decode(content: bytes, format: str) -> None:  # noqa: A002
    from PIL import Image, ImageSequence

    # Pillow's own bound only warns; the size is checked here as soon as the header is read.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(io.BytesIO(content), formats=(format,)) as image:
            left = _check_size(image)
            for frame in ImageSequence.Iterator(image):
                left -= frame.width * frame.height
                if left < 0:
                    raise Invalid(file=[f"has more than {FRAMES_PIXEL_LIMIT} pixels in all of its frames"])
                frame.load()
        if format == "PNG":
            # Pillow is content with the pixels; a badge is put in between the chunks, to the last.
            deque(png.Reader(bytes=content).chunks(), maxlen=0)
    except BROKEN as error:
        raise Invalid(file=[f"is a damaged {format}: {str(error)[:200]}"]) from error


def _check_size(image: "Image.Image") -> int:
    if image.width * image.height > PIXEL_LIMIT or max(image.size) > SIDE_LIMIT:
        raise Invalid(file=[f"is {image.width} x {image.height}; at most {PIXEL_LIMIT} pixels are taken"])
    return FRAMES_PIXEL_LIMIT


def keep(
    connection: sa.Connection, site: Site, picture: Picture, wanted: str | None = None
) -> tuple[Asset, bool]:
    """The asset, and whether it is new. The same content is kept once; Conflict where a name is taken.

    Its name is made of the content unless one is wanted.
    """
    if wanted is not None and not NAME.fullmatch(wanted):
        raise Invalid(name=["must be up to 100 letters, digits, _ and -, without a suffix"])
    stem = wanted or hashlib.sha256(picture.content).hexdigest()[:32]
    name = f"{stem}.{EXTENSIONS[picture.media_type]}"
    row = {
        "id": str(uuid.uuid4()),
        "name": name,
        "media_type": picture.media_type,
        "content": picture.content,
        "created_at": site.clock(),
    }
    is_new = _insert_unless_there(connection, row)
    kept = find(connection, name)
    if kept.content != picture.content:
        raise Conflict(detail=f"There is another picture with the name {kept.name}")
    return kept, is_new


def _insert_unless_there(connection: sa.Connection, row: dict[str, Any]) -> bool:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(images).values(row).on_conflict_do_nothing().returning(images.c.id)
    return connection.execute(statement).one_or_none() is not None


def find(connection: sa.Connection, name: str) -> Asset:
    """The asset, or NotFound."""
    query = sa.select(images).where(images.c.name == name)
    row = None if "\x00" in name else connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(what="image", id=name)
    return Asset(**{**row._mapping, "content": bytes(row.content)})


def find_by_url(connection: sa.Connection, site: Site, url: str) -> Picture | None:
    """The picture at a URL, if that is one of this server or holds it itself; nothing is fetched."""
    prefix = f"{site.base_url}/assets/"
    try:
        if url.startswith(prefix):
            asset = find(connection, url.removeprefix(prefix))
            return Picture(media_type=asset.media_type, content=asset.content)
        return judge(read_data_url(url)) if url.startswith("data:") else None
    except (NotFound, Invalid, UnsupportedMedia, TooLarge):
        return None


def read_data_url(url: str) -> bytes:
    """The bytes of a `data:` URL in base64; Invalid for any other."""
    found = DATA_URL.match(url)
    try:
        return base64.b64decode(re.sub(r"\s", "", url[found.end() :]), validate=True) if found else _no_data()
    except (binascii.Error, ValueError) as error:
        raise Invalid(file=["is not a data: URL in base64"]) from error


def _no_data() -> bytes:
    raise ValueError
