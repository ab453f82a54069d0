"""Baking: a badge inside a picture, put in and taken out again, as both versions of the standard say."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from xml.parsers.expat import ExpatError

import png
from defusedxml import minidom
from defusedxml.common import DefusedXmlException
from openbadgeslib import baking as library

from obms.badges import images
from obms.badges.images import Picture

Version = Literal["2.0", "3.0"]
# A signed badge of text only has a few kB; whoever verifies one takes no more than this.
TEXT_LIMIT = 256 * 1024
# Each library has its own exceptions for what is malformed.
BROKEN = (
    *images.BROKEN,
    library.DecompressionLimitExceeded,
    DefusedXmlException,
    ExpatError,
    RecursionError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """What holds a badge of one version: the keyword of an iTXt chunk, the element of an SVG."""

    keyword: bytes
    element: str
    namespace: str


CARRIERS: dict[Version, Carrier] = {
    "3.0": Carrier(
        keyword=library.ITXT_KEYWORD_OB3, element=library.SVG_ELEMENT_OB3, namespace=library.SVG_NS_OB3
    ),
    "2.0": Carrier(keyword=library.ITXT_KEYWORD, element=library.SVG_ELEMENT, namespace=library.SVG_NS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """What is baked: a compact token or a JSON document; `url` is that of a hosted assertion."""

    version: Version
    text: str
    url: str | None = None

    @property
    def is_token(self) -> bool:
        return not self.text.lstrip().startswith("{")


class NotBaked(Exception):
    """There is no badge in the picture, or it cannot be taken out."""


def bake(picture: Picture, badge: Badge) -> bytes:
    """The PNG or SVG with the badge in it, and with no other one."""
    bake_it = _bake_svg if picture.media_type == images.SVG else _bake_png
    return bake_it(picture.content, badge)


def unbake(content: bytes) -> Badge:
    """The badge in a picture, which anybody may have made; NotBaked says why there is none."""
    media_type = images.sniff(content)
    read = READERS.get(media_type or "")
    if read is None:
        raise NotBaked("it is no PNG and no SVG")
    try:
        badge = next(read(content), None)
    except BROKEN as error:
        raise NotBaked(f"the picture is damaged: {str(error)[:200]}") from error
    if badge is None:
        raise NotBaked("there is no badge in the picture")
    if len(badge.text) > TEXT_LIMIT:
        raise NotBaked(f"the badge in the picture is larger than {TEXT_LIMIT} bytes")
    return badge


# PNG


def _bake_png(content: bytes, badge: Badge) -> bytes:
    plain = io.BytesIO()
    png.write_chunks(plain, (chunk for chunk in _chunks(content) if not _carries(*chunk)))
    carrier = CARRIERS[badge.version]
    return library.bake_png(plain.getvalue(), badge.text, keyword=carrier.keyword)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    yield from png.Reader(bytes=content).chunks()


def _carries(kind: bytes, data: bytes) -> bool:
    return kind == b"iTXt" and data.partition(b"\0")[0] in {each.keyword for each in CARRIERS.values()}


def _read_png(content: bytes) -> Iterator[Badge]:
    for version, carrier in CARRIERS.items():
        text = library.extract_png(content, TEXT_LIMIT, keyword=carrier.keyword)
        if text:
            yield Badge(version=version, text=text.strip())


# SVG


def _bake_svg(content: bytes, badge: Badge) -> bytes:
    """As the library does it, but that a hosted assertion has both its address and its text in it."""
    document = minidom.parseString(content)
    try:
        for carrier in CARRIERS.values():
            for found in document.getElementsByTagName(carrier.element):
                found.parentNode.removeChild(found)
        document.documentElement.appendChild(_svg_element(document, badge))
        return bytes(document.toxml(encoding="utf-8"))
    finally:
        document.unlink()


def _svg_element(document: Any, badge: Badge) -> Any:
    carrier = CARRIERS[badge.version]
    element = document.createElement(carrier.element)
    element.setAttribute("xmlns:openbadges", carrier.namespace)
    if badge.is_token or badge.url:
        element.setAttribute("verify", badge.text if badge.is_token else badge.url)
    if not badge.is_token:
        # Text that holds the end of a CDATA section cannot stand in one; escaped it says the same.
        whole = document.createTextNode if "]]>" in badge.text else document.createCDATASection
        element.appendChild(whole(badge.text))
    return element


def _read_svg(content: bytes) -> Iterator[Badge]:
    document = minidom.parseString(content)
    try:
        for version, carrier in CARRIERS.items():
            for element in document.getElementsByTagName(carrier.element):
                if text := _svg_text(element):
                    yield Badge(version=version, text=text, url=element.getAttribute("verify") or None)
    finally:
        document.unlink()


def _svg_text(element: Any) -> str:
    """The document in the element, or else what its attribute holds: a token, or an address."""
    kinds = (element.TEXT_NODE, element.CDATA_SECTION_NODE)
    inside = "".join(child.data for child in element.childNodes if child.nodeType in kinds).strip()
    return inside or str(element.getAttribute("verify")).strip()


READERS: dict[str, Callable[[bytes], Iterator[Badge]]] = {images.PNG: _read_png, images.SVG: _read_svg}
