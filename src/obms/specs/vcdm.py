"""The W3C's data model of verifiable credentials: what is wrong with the form of a document.

Version 2.0 is what is written; version 1.1 is read too.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

CONTEXT = "https://www.w3.org/ns/credentials/v2"
EARLIER = "https://www.w3.org/2018/credentials/v1"  # of version 1.1
CREDENTIAL, PRESENTATION = "VerifiableCredential", "VerifiablePresentation"
ENVELOPED = ("EnvelopedVerifiableCredential", "EnvelopedVerifiablePresentation")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
TEXT_MEMBERS = {"@value", "@language", "@direction"}
# Members whose values are objects of a type; those that need an id, and those that may have one.
TYPED = ("credentialStatus", "credentialSchema", "refreshService", "termsOfUse", "evidence", "proof")
WITH_ID = ("credentialSchema",)
DIGESTS = {"digestSRI", "digestMultibase"}

Complaints = Iterator[tuple[str, str]]
Judge = Callable[[Any], Complaints]


def is_earlier(document: Mapping[str, Any]) -> bool:
    """Whether a document is of version 1.1."""
    return listed(document.get("@context"))[:1] == [EARLIER]


def credential_complaints(document: Mapping[str, Any]) -> Complaints:
    """The member, and what is wrong with it; nothing for a credential that is well formed."""
    yield from _head(document, CREDENTIAL)
    yield from _body(document)
    yield from _period(document, "validFrom", "validUntil")
    yield from _related(document.get("relatedResource"))


def earlier_complaints(document: Mapping[str, Any]) -> Complaints:
    """The same for a credential of version 1.1."""
    yield from _head(document, CREDENTIAL, EARLIER)
    yield from _body(document)
    if "issuanceDate" not in document:
        yield "issuanceDate", "must be there"
    yield from _period(document, "issuanceDate", "expirationDate")
    yield from _period(document, "validFrom", "validUntil")


def _body(document: Mapping[str, Any]) -> Complaints:
    yield from _issuer(document.get("issuer"))
    yield from _texts(document, "")
    yield from _subjects(document.get("credentialSubject"))
    for name in TYPED:
        for value in listed(document.get(name)):
            yield from _typed(name, value)


def _related(value: object) -> Complaints:
    """Section 5.3: objects, each with an id that no other has, and with a digest."""
    ids = set[str]()
    for resource in listed(value):
        if not isinstance(resource, Mapping):
            yield "relatedResource", "must be an object"
            continue
        id = resource.get("id")
        if not isinstance(id, str) or not _is_url(id):
            yield "relatedResource.id", "must be a URL"
        elif id in ids:
            yield "relatedResource.id", "must not be there twice"
        else:
            ids.add(id)
        if not DIGESTS & {name for name, digest in resource.items() if digest and isinstance(digest, str)}:
            yield "relatedResource", f"must have one of {', '.join(sorted(DIGESTS))}"


def presentation_complaints(document: Mapping[str, Any]) -> Complaints:
    """The same for a presentation and the credentials in it."""
    yield from _head(document, PRESENTATION)
    if "holder" in document:
        yield from _identified("holder", document["holder"])
    for name in ("termsOfUse", "proof"):
        for value in listed(document.get(name)):
            yield from _typed(name, value)
    for number, held in enumerate(listed(document.get("verifiableCredential"))):
        for name, complaint in held_complaints(held):
            yield f"verifiableCredential.{number}.{name}".rstrip("."), complaint


def held_complaints(held: Any) -> Complaints:
    """What is wrong with a credential inside a presentation, which may be in an envelope."""
    if not isinstance(held, Mapping):
        yield "", "must be an object"
    elif ENVELOPED[0] in types_of(held):
        yield from envelope_complaints(held)
    elif is_earlier(held):
        yield from earlier_complaints(held)
    else:
        yield from credential_complaints(held)


def envelope_complaints(held: Mapping[str, Any]) -> Complaints:
    """What is secured stands in a data: URL."""
    if not str(held.get("id", "")).startswith("data:"):
        yield "id", "must be a data: URL"
    if not (contexts := listed(held.get("@context"))) or contexts[0] != CONTEXT:
        yield "@context", f"must begin with {CONTEXT}"


def listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def types_of(value: Mapping[str, Any]) -> list[Any]:
    return listed(value.get("type"))


def _is_url(value: object) -> bool:
    return isinstance(value, str) and URL.fullmatch(value) is not None


def _head(document: Mapping[str, Any], kind: str, first: str = CONTEXT) -> Complaints:
    contexts = document.get("@context")
    if not isinstance(contexts, list) or not contexts or contexts[0] != first:
        yield "@context", f"must be a list that begins with {first}"
    elif not all(isinstance(each, Mapping) or _is_url(each) for each in contexts):
        yield "@context", "must hold URLs and objects"
    types = types_of(document)
    if not types or not all(isinstance(each, str) and each for each in types):
        yield "type", "must be a name or a list of names"
    elif kind not in types:
        yield "type", f"must include {kind}"
    if "id" in document and not _is_url(document["id"]):
        yield "id", "must be one URL"


def _identified(name: str, value: object) -> Complaints:
    """A URL, or an object whose id is one."""
    if isinstance(value, Mapping):
        if not _is_url(value.get("id")):
            yield f"{name}.id", "must be a URL"
    elif not _is_url(value):
        yield name, "must be a URL, or an object with an id"


def _issuer(value: object) -> Complaints:
    yield from _identified("issuer", value)
    if isinstance(value, Mapping):
        yield from _texts(value, "issuer.")


def _texts(holder: Mapping[str, Any], prefix: str) -> Complaints:
    """A name or description is a text, or texts each with its language."""
    for name in ("name", "description"):
        for value in listed(holder.get(name)):
            if isinstance(value, str):
                continue
            if not isinstance(value, Mapping) or not isinstance(value.get("@value"), str):
                yield prefix + name, "must be a text, or an object with a @value"
            elif not set(value) <= TEXT_MEMBERS:
                yield prefix + name, "must have no other members than @value, @language and @direction"


def _period(document: Mapping[str, Any], start: str, end: str) -> Complaints:
    times: dict[str, datetime] = {}
    for name in (start, end):
        if name not in document:
            continue
        time = _time(document[name])
        if time is None:
            yield name, "must be a time with its zone, as 2026-01-01T00:00:00Z"
        else:
            times[name] = time
    if len(times) > 1 and times[end] < times[start]:
        yield end, f"must not be earlier than {start}"


def _time(value: object) -> datetime | None:
    if not isinstance(value, str) or not TIME.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _subjects(value: object) -> Complaints:
    subjects = listed(value)
    if not subjects:
        yield "credentialSubject", "must be there"
    for subject in subjects:
        if not isinstance(subject, Mapping) or not subject:
            yield "credentialSubject", "must be an object that says something"
        elif "id" in subject and not _is_url(subject["id"]):
            yield "credentialSubject.id", "must be one URL"


def _typed(name: str, value: object) -> Complaints:
    if not isinstance(value, Mapping):
        yield name, "must be an object"
        return
    if not types_of(value) or not all(isinstance(each, str) and each for each in types_of(value)):
        yield f"{name}.type", "must be a name or a list of names"
    if ("id" in value or name in WITH_ID) and not _is_url(value.get("id")):
        yield f"{name}.id", "must be one URL"


def told(
    complaints: Callable[[Mapping[str, Any]], Complaints], document: Mapping[str, Any]
) -> dict[str, list[str]]:
    """The complaints by member."""
    found: dict[str, list[str]] = {}
    for name, complaint in complaints(document):
        found.setdefault(name or "document", []).append(complaint)
    return found
