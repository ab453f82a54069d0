"""The JSON-LD contexts that documents may name. None is ever fetched: what is signed depends on them.

Those of today come with the library. Those of version 1.1 of the data model stand here as they were
published; `SHA256` tells the file, and the test of it where each is from.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from openbadgeslib.ob3.contexts import bundled_contexts

from obms.badges.reading import listed
from obms.specs import vcdm

Contexts = Mapping[str, dict[str, Any]]
OPEN_BADGES = "https://purl.imsglobal.org/spec/ob/v3p0/"
# Its text has changed in the course of time: it was 3.0.0 for years.
UNVERSIONED = f"{OPEN_BADGES}context.json"
FIRST = "ob-v3p0-context-3.0.0.json"
VOCABULARY = "https://purl.imsglobal.org/spec/vc/ob/vocab.html#"
CLASS = re.compile(rf"{re.escape(VOCABULARY)}[A-Z]\w+")
ALIASED = "OpenBadgeCredential"  # an AchievementCredential is another name for it
SECURITY = "https://w3id.org/security/"
FILES = {
    vcdm.EARLIER: "credentials-v1.json",
    f"{SECURITY}suites/ed25519-2020/v1": "security-ed25519-2020-v1.json",
    f"{SECURITY}data-integrity/v1": "security-data-integrity-v1.json",
    "https://w3id.org/vc/status-list/2021/v1": "status-list-2021-v1.json",
    "https://w3id.org/vc-revocation-list-2020/v1": "revocation-list-2020-v1.json",
    f"{OPEN_BADGES}context-3.0.0.json": FIRST,
    f"{OPEN_BADGES}context/ob_v3p0.jsonld": FIRST,
}
SHA256 = {
    "credentials-v1.json": "00d7dd6d3ad8b920e3e550dd3a3d9090bffcac84cdbf943da6924b3e0a5c8bb8",
    "security-ed25519-2020-v1.json": "b9e1ab971fd8bf2c7553e0c4a9438e0b9450afde1ea1ca5b2492368b9f549588",
    "security-data-integrity-v1.json": "b5d829bd09aa7c42abc6efa0c8ed7635313b5487f37ccfce3ecd149ca9418554",
    "status-list-2021-v1.json": "634d71c159289f068c96012e4511c657fdf82ac4231900081bda3ba24e2e1160",
    "revocation-list-2020-v1.json": "9fe1e5bd6d2f709e4628947c86455f2d97204e07ed7b7ae51d559e35e5238e9d",
    FIRST: "9f1c8f9f361ba2994b9b50701f41149919542c50c7b7455b2846d87959295d72",
}
# Contexts of the W3C that define nothing but a vocabulary, as its examples and test suites use them.
VOCABULARIES = {
    "https://www.w3.org/ns/credentials/examples/v2": "https://www.w3.org/ns/credentials/examples#",
    "https://www.w3.org/ns/credentials/undefined-terms/v2": "https://www.w3.org/ns/credentials/undefined-term#",
}
CONTEXTS: Contexts = {
    **bundled_contexts(),
    **{url: {"@context": {"@vocab": iri}} for url, iri in VOCABULARIES.items()},
}


@cache
def earlier() -> Contexts:
    """Those of today, and those of version 1.1 of the data model and of its proofs and lists."""
    return {**CONTEXTS, **{url: _read(name) for url, name in FILES.items()}}


@cache
def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(resources.files(__name__).joinpath(name).read_bytes())
    return found


@cache
def earlier_apart() -> Contexts:
    """The same, but no two terms of Open Badges have one IRI, as `achievement` and `Achievement` have.

    What is signed is said by the first; whether the JSON says it in the one right way can only be told here.
    """
    return _apart(earlier())


def _apart(known: Contexts) -> Contexts:
    return {
        url: {"@context": _told_apart(document["@context"], _members(document["@context"]))}
        if url.startswith(OPEN_BADGES)
        else document
        for url, document in known.items()
    }


def _members(terms: Mapping[str, Any]) -> set[str]:
    """The IRIs of members, at whatever depth."""
    found = set[str]()
    for name, term in terms.items():
        if isinstance(term, dict):
            found |= _members(term.get("@context") or {})
            if name[:1].islower() and "@id" in term:
                found.add(term["@id"])
    return found


def _told_apart(terms: Mapping[str, Any], members: set[str]) -> dict[str, Any]:
    return {
        name: _term_apart(name, term, members) if isinstance(term, dict) else term
        for name, term in terms.items()
    }


def _term_apart(name: str, term: dict[str, Any], members: set[str]) -> dict[str, Any]:
    found = dict(term)
    if "@context" in found:
        found["@context"] = _told_apart(found["@context"] or {}, members)
    if name[:1].isupper() and (found.get("@id") in members or found.get("@id") == ALIASED):
        found["@id"] = f"{VOCABULARY}{name}Class"
    # 3.0.0 says that a picture is a literal whose datatype is a class; it is a node, and has members.
    if CLASS.fullmatch(found.get("@type") or ""):
        found["@type"] = "@id"
    return found


def known_to(document: Mapping[str, Any]) -> Contexts:
    """What is known to the terms of a document of this version of the data model."""
    return earlier() if vcdm.is_earlier(document) else CONTEXTS


def readings(document: Mapping[str, Any]) -> Iterator[tuple[Contexts, Contexts]]:
    """The ways in which who signed a document may have meant it: the contexts, and the same told apart."""
    if UNVERSIONED in listed(document.get("@context")):
        first = {UNVERSIONED: _read(FIRST)}
        yield {**earlier(), **first}, {**earlier_apart(), **_apart(first)}
    yield earlier(), earlier_apart()
