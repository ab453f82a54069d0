"""Pictures for the tests: sound ones of each kind, and hostile ones."""

import io
import struct
import zlib

from isal import isal_zlib
from PIL import Image
from PIL.PngImagePlugin import PngInfo

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{}</svg>'
PLAIN_SVG = SVG.format('<style>.a { fill: url(#g) }</style><circle class="a" r="4" cx="4" cy="4"/>').encode()


def raster(kind: str = "PNG", size: tuple[int, int] = (9, 7)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (20, 90, 160)).save(out, kind)
    return out.getvalue()


def animated(frames: int, size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    pictures = [Image.new("P", size, number % 256) for number in range(frames)]
    pictures[0].save(out, "GIF", save_all=True, append_images=pictures[1:])
    return out.getvalue()


def png_with_text(keyword: str, text: str) -> bytes:
    """A PNG with an iTXt chunk, written by another hand than the one under test."""
    info, out = PngInfo(), io.BytesIO()
    info.add_itxt(keyword, text)
    Image.new("RGB", (9, 7)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *extra: bytes, data: bytes = b"") -> bytes:
    """A PNG that claims a size, with these chunks in it."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(data or b"\0" * (height * (width * 3 + 1))))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + body + chunk(b"IEND", b"")


ZTXT_BOMB = png_of(4, 4, chunk(b"zTXt", b"a\0\0" + isal_zlib.compress(b"\0" * 80_000_000)))
PIXEL_BOMB = png_of(60_000, 60_000, data=b"\0")
LAUGHS = (
    b'<!DOCTYPE svg [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b'<svg xmlns="http://www.w3.org/2000/svg"><text>&b;</text></svg>'
)
EXTERNAL = (
    b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    b'<svg xmlns="http://www.w3.org/2000/svg"><text>&x;</text></svg>'
)
