"""What the pinned JSON-LD contexts define, in the simple form that `canonical` works with."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from openbadgeslib.ob3.contexts import bundled_contexts

TYPE_LIMIT = 8
# What an IRI may begin with. None of these is a term, so that none is the prefix of a compact IRI.
SCHEMES = ("http", "https", "did", "urn", "mailto", "tel", "data")
IRI = re.compile(r"(?:https?://|did:|urn:|mailto:|tel:|data:)[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
# The kinds of value; any other kind is the IRI of a datatype.
TEXT, NODE, PURPOSE = "", "@id", "@vocab"
PURPOSE_TERM = "proofPurpose"

Definition = dict[str, Any]
Definitions = dict[str, Definition]


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A member of an object: its IRI as it is written, and what its values are."""

    iri: str
    kind: str
    nodes_only: bool = False


@lru_cache(maxsize=4096)
def terms_of(urls: tuple[str, ...], types: tuple[str, ...]) -> tuple[dict[str, Term], tuple[str, ...]] | None:
    """The terms that a node of these types has under these contexts, and the IRIs of the types.

    None where any of it is unknown, or less simple than `canonical` needs it.
    """
    definitions = _merged(urls)
    if definitions is None or len(types) > TYPE_LIMIT or len(set(types)) != len(types):
        return None
    together = dict(definitions)
    for name in types:
        if name not in definitions or not _is_type(name, definitions[name]):
            return None
        own = _definitions(definitions[name].get("@context", {}))
        if own is None or not _agree(together, own):
            return None
        together |= own
    iris = tuple(f"<{definitions[name]['@id']}>" for name in types)
    return _terms(together), iris


@lru_cache(maxsize=256)
def _merged(urls: tuple[str, ...]) -> Definitions | None:
    """All that a list of contexts defines; None where it contradicts itself, or is not of the pinned ones."""
    definitions: Definitions = {}
    for url in urls:
        pinned = bundled_contexts().get(url)
        found = _definitions(pinned["@context"]) if pinned else None
        if found is None or not _agree(definitions, found):
            return None
        definitions |= found
    keywords = {"id": {"@id": "@id"}, "type": {"@id": "@type"}}
    if len(set(urls)) != len(urls) or not keywords.items() <= definitions.items():
        return None
    return None if any(scheme in definitions for scheme in SCHEMES) else definitions


def _definitions(context: Any) -> Definitions | None:
    """The definitions of a context; None where it has more in it than definitions."""
    if not isinstance(context, dict):
        return None
    found = {}
    for name, value in context.items():
        if name == "@protected":
            continue
        if name.startswith("@") or not isinstance(value, str | dict):
            return None
        found[name] = {"@id": value} if isinstance(value, str) else value
    return found


def _agree(first: Definitions, second: Definitions) -> bool:
    """Whether nothing is defined by both in two ways."""
    return all(first.get(name, one) == one for name, one in second.items())


def _is_type(name: str, definition: Definition) -> bool:
    """Types are told from members by their first letter; one that is called by another's name is neither."""
    known = definition.keys() <= {"@id", "@context"}
    return not name[0].islower() and known and IRI.fullmatch(definition["@id"]) is not None


def _terms(definitions: Definitions) -> dict[str, Term]:
    """Those of the definitions that are members of a simple kind."""
    names: dict[str, list[str]] = {}
    for name, one in definitions.items():
        names.setdefault(one["@id"], []).append(name)
    found = {}
    for name, one in definitions.items():
        others = [other for other in names[one["@id"]] if other != name]
        # A type of the same IRI is never chosen for a node; two members might be, for one another.
        if _is_simple(name, one) and all(_is_type(other, definitions[other]) for other in others):
            found[name] = Term(iri=f"<{one['@id']}>", kind=one.get("@type", TEXT), nodes_only=bool(others))
    return found


def _is_simple(name: str, one: Definition) -> bool:
    kind = one.get("@type", TEXT)
    if not name[0].islower() or not IRI.fullmatch(one["@id"]) or one.get("@container", "@set") != "@set":
        return False
    if name == PURPOSE_TERM:
        return bool(kind == PURPOSE)
    return one.keys() <= {"@id", "@type", "@container"} and (kind in (TEXT, NODE) or kind[0] != "@")
