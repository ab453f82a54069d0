"""The canonical form (RDFC-1.0) of the documents that this server signs, without a JSON-LD processor.

Contract of `canonize`: it gives the very text that the JSON-LD library gives, or None. What it gives a
text for is the compacted form of what the text says: every member is a term of the pinned contexts, with
a value of the kind that the term has, and no node but a picture is told of at two places. It gives None
for all else, sound or not (another list of contexts, a number, a list, an IRI that is not plain ASCII,
two blank nodes that look alike from near by): the library is then to judge.

It can be so short because the pinned contexts are simple, which `terms` makes sure of: a term is one IRI
with at most one datatype; a type brings terms for its own node alone; nothing is defined in two ways; and
no two terms could stand for the same value. A document is then a tree, in which a blank node has one
place: hashes of the first degree tell the blank nodes apart, or it is given up.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from obms.badges.terms import IRI, NODE, PURPOSE, TEXT, Term, terms_of

DEPTH_LIMIT = 32
RDF_TYPE = "<http://www.w3.org/1999/02/22-rdf-syntax-ns#type>"
BOOLEAN = "https://www.w3.org/2001/XMLSchema#boolean"  # as the context of Open Badges spells it
PURPOSES = {"assertionMethod": "<https://w3id.org/security#assertionMethod>"}
DOTS = ("/./", "/../")  # an IRI is freed of them where it is resolved
# What one writer of the canonical form escapes and another does not, and what is no text at all.
UNEVEN = re.compile("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
TO_ESCAPE = re.compile(r'[\\"\n\r]')

Token = str | int  # an IRI or a literal as it is written, or the number of a blank node
Quad = tuple[Token, str, Token]


class _Unsure(Exception):
    """The library is to judge this document."""


def canonize(document: Mapping[str, Any]) -> str | None:
    """The canonical N-Quads of a JSON-LD document as the library gives them; None to have that judge it."""
    urls = document.get("@context")
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        return None
    walk = _Walk(tuple(urls))
    try:
        walk.node({name: value for name, value in document.items() if name != "@context"}, 0)
        walk.require_one_place_each()
        return _written(walk.quads, walk.blanks)
    except _Unsure:
        return None


class _Walk:
    """The quads of a document, and how many blank nodes there are in it."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        self.urls = urls
        self.quads: set[Quad] = set()
        self.blanks = 0
        self._described: dict[str, dict[str, Any]] = {}
        self._named: set[str] = set()

    def require_one_place_each(self) -> None:
        if not self._named.isdisjoint(self._described):
            raise _Unsure

    def node(self, members: dict[str, Any], depth: int) -> Token:
        """Walk over an object; how it is written as the subject or object of a quad."""
        if depth > DEPTH_LIMIT or not members:
            raise _Unsure
        subject = self._subject(members)
        types = _values(members["type"]) if "type" in members else []
        if not all(isinstance(name, str) for name in types):
            raise _Unsure
        known = terms_of(self.urls, tuple(types))
        if known is None:
            raise _Unsure
        terms, iris = known
        for iri in iris:
            self.quads.add((subject, RDF_TYPE, iri))
        for name, value in members.items():
            if name not in ("id", "type"):
                self._member(subject, terms.get(name), value, depth)
        return subject

    def _subject(self, members: dict[str, Any]) -> Token:
        if "id" not in members:
            self.blanks += 1
            return self.blanks
        iri = _iri(members["id"])
        if len(members) == 1:
            self._named.add(iri)
        else:
            first = self._described.setdefault(iri, members)
            if first is not members and not (_is_picture(first) and _is_picture(members)):
                raise _Unsure
        return iri

    def _member(self, subject: Token, term: Term | None, value: Any, depth: int) -> None:
        if term is None:
            raise _Unsure
        for one in _values(value):
            if isinstance(one, dict) and term.kind in (TEXT, NODE):
                self.quads.add((subject, term.iri, self.node(one, depth + 1)))
            elif term.nodes_only:
                raise _Unsure
            elif term.kind == NODE:
                iri = _iri(one)
                self._named.add(iri)
                self.quads.add((subject, term.iri, iri))
            else:
                self.quads.add((subject, term.iri, _literal(term.kind, one)))


def _is_picture(members: dict[str, Any]) -> bool:
    """An issuer and its achievement may have the same one, and each tells of it."""
    return members.get("type") in ("Image", ["Image"])


def _values(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    if not value:
        raise _Unsure
    return value


def _iri(value: Any) -> str:
    if not isinstance(value, str) or not IRI.fullmatch(value):
        raise _Unsure
    if "/." in value and any(dots in f"{value}/" for dots in DOTS):
        raise _Unsure
    return f"<{value}>"


def _literal(kind: str, value: Any) -> str:
    if isinstance(value, bool) and kind == BOOLEAN:
        return f'"{str(value).lower()}"^^<{kind}>'
    if not isinstance(value, str) or UNEVEN.search(value):
        raise _Unsure
    if kind == PURPOSE:
        if value not in PURPOSES:
            raise _Unsure
        return PURPOSES[value]
    if TO_ESCAPE.search(value):
        value = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace('"', '\\"')
    return f'"{value}"^^<{kind}>' if kind else f'"{value}"'


def _written(quads: set[Quad], blanks: int) -> str:
    """RDFC-1.0, where hashes of the first degree are enough for it."""
    near: list[list[Quad]] = [[] for _ in range(blanks + 1)]
    for quad in quads:
        for token in (quad[0], quad[2]):
            if isinstance(token, int):
                near[token].append(quad)
    hashes = sorted((_hash(number, near[number]), number) for number in range(1, blanks + 1))
    if len({found for found, _ in hashes}) != blanks:
        raise _Unsure
    names: dict[Token, Token] = {number: f"_:c14n{place}" for place, (_, number) in enumerate(hashes)}
    return "".join(sorted(f"{names.get(s, s)} {p} {names.get(o, o)} .\n" for s, p, o in quads))


def _hash(number: int, quads: list[Quad]) -> str:
    def seen_from_it(token: Token) -> str:
        return token if isinstance(token, str) else "_:a" if token == number else "_:z"

    lines = sorted(f"{seen_from_it(s)} {p} {seen_from_it(o)} .\n" for s, p, o in quads)
    return sha256("".join(lines).encode()).hexdigest()
