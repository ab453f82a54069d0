"""What an uploaded SVG may hold: a picture, and nothing that runs, loads, or grows when it is read."""

import re
from collections.abc import Mapping
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from obms.errors import Invalid

NAMESPACE = "http://www.w3.org/2000/svg"
XHTML = "http://www.w3.org/1999/xhtml"
ELEMENT_LIMIT, DEPTH_LIMIT = 20_000, 64
ACTIVE = {
    "audio",
    "embed",
    "foreignobject",
    "handler",
    "iframe",
    "link",
    "listener",
    "meta",
    "object",
    "script",
    "video",
}
# Whoever reads another encoding than the one declared sees another document.
DECLARED = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']*)", re.DOTALL)
RASTER = re.compile(r"data:image/(png|jpe?g|gif|webp);base64,[a-z0-9+/=\s]*", re.IGNORECASE)
CSS_URL = re.compile(r"url\(\s*[\"']?\s*([^\"')]*)", re.IGNORECASE)
CSS_ACTIVE = re.compile(
    r"@import|@namespace|expression\s*\(|javascript:|-moz-binding|behaviou?r\s*:|image-set\(|src\(|\\",
    re.IGNORECASE,
)
BLANK = re.compile(r"[\x00-\x20\x7f-\xa0]+")


class _Found(Exception):
    """Something that may not be in a picture."""


def screen(content: bytes) -> None:
    """Invalid, with what was found, unless it is one SVG that is safe to show and cheap to read.

    It is refused and not mended: what is taken out of a picture changes it, and whoever made it
    should know.
    """
    parser = DefusedXMLParser(target=_Screen(), forbid_dtd=False)
    try:
        _check_encoding(content)
        parser.feed(content)
        parser.close()
    except _Found as error:
        raise Invalid(file=[f"is an SVG with {error}"]) from error
    except DefusedXmlException as error:
        raise Invalid(file=["is an SVG that declares entities or refers to others"]) from error
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise Invalid(file=["is not well-formed SVG"]) from error


def _check_encoding(content: bytes) -> None:
    declared = DECLARED.match(content.removeprefix(b"\xef\xbb\xbf")[:1000])
    if declared and declared[1].lower() not in (b"utf-8", b"utf8", b"us-ascii"):
        raise _Found("an encoding other than UTF-8")
    content.decode("utf-8")


class _Screen:
    """The target of the parser: it looks at each part as it passes, and keeps none."""

    def __init__(self) -> None:
        self.elements = 0
        self.depth = 0
        self.style: list[str] | None = None

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        namespace, name = _split(tag)
        self.elements += 1
        self.depth += 1
        if self.elements > ELEMENT_LIMIT or self.depth > DEPTH_LIMIT:
            raise _Found(f"more than {ELEMENT_LIMIT} elements or {DEPTH_LIMIT} levels")
        if self.elements == 1 and (namespace, name) != (NAMESPACE, "svg"):
            raise _Found(f"a root that is no {{{NAMESPACE}}}svg")
        if name in ACTIVE or namespace == XHTML:
            raise _Found(f"an element <{name}>")
        if name == "style":
            self.style = []
        for attribute, value in attributes.items():
            _check_attribute(name, _split(attribute)[1], value)

    def data(self, text: str) -> None:
        if self.style is not None:
            self.style.append(text)

    def end(self, tag: str) -> None:
        self.depth -= 1
        if self.style is not None and _split(tag)[1] == "style":
            _check_css("".join(self.style))
            self.style = None

    def pi(self, target: str, _data: str | None = None) -> None:
        raise _Found(f"a processing instruction {target.split(maxsplit=1)[0]}")

    def close(self) -> None:
        if self.elements == 0:
            raise _Found("nothing in it")


def _split(tag: str) -> tuple[str, str]:
    namespace, _, name = tag.removeprefix("{").rpartition("}")
    return namespace, name.lower()


def _check_attribute(element: str, name: str, value: str) -> None:
    if name.startswith("on"):
        raise _Found(f"an event handler {name}")
    if name in ("href", "src", "action", "data", "formaction"):
        _check_link(element, value)
    elif name == "attributename" and value.strip().lower().rpartition(":")[2].startswith(("href", "on")):
        raise _Found(f"an animation of {value.strip()}")
    else:
        _check_css(value)


def _check_link(element: str, value: str) -> None:
    target = BLANK.sub("", value).lower()
    is_page = element == "a" and target.startswith(("https://", "http://"))
    if not (target == "" or target.startswith("#") or is_page or RASTER.fullmatch(value.strip())):
        raise _Found(f"a reference to {target[:40]}")


def _check_css(text: str) -> None:
    if found := CSS_ACTIVE.search(text):
        raise _Found(f"{found[0]} in its style")
    for target in CSS_URL.findall(text):
        if not (target.startswith("#") or RASTER.match(target)):
            raise _Found(f"a reference to {target[:40]} in its style")
