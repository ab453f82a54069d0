"""Where a foreign credential stands, by the list that its issuer publishes and signs."""

import re
from datetime import datetime
from typing import Any

import jwt
from openbadgeslib.ob3 import decode_encoded_list, verify_data_integrity_proof

from obms.badges import earlier
from obms.badges.fetching import Visit
from obms.badges.foreign_keys import algorithms_of, find_key
from obms.badges.inquiry import LEEWAY, Fault, Report, Revoked, Suspended
from obms.badges.reading import id_of, is_token, listed, read_object, read_token
from obms.badges.signatures import WITHOUT_TIME
from obms.domain import REVOCATION, SUSPENSION
from obms.specs import Json, vc

ENTRY_LIMIT = 8
BITSTRING, ONE_EDTECH = "BitstringStatusListEntry", "1EdTechRevocationList"
# Lists from before it, and what their subject is; the older one can but revoke.
LIST_2021, LIST_2020 = "StatusList2021Entry", "RevocationList2020Status"
OLDER = {LIST_2021: "StatusList2021", LIST_2020: "RevocationList2020"}
BADGE = re.compile(r"/credentials/[0-9a-f-]{36}\Z")
PLACE = ("Credential", "Index")
ONE_BIT = (None, 1, "1")
# A list is text of up to a few hundred kB: 4 million bits that do not compress.
LIST_LIMIT = 1024 * 1024


def check_status(document: Json, issuer: str, report: Report) -> str:
    """Revoked or Suspended if a bit is set, Fault if it cannot be told; what was looked at."""
    entries = listed(document.get("credentialStatus"))
    if len(entries) > ENTRY_LIMIT:
        raise Fault(f"it has more than {ENTRY_LIMIT} places in lists")
    suspended = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise Fault("a place in a list is no object")
        if _is_set(entry, document, issuer, report):
            if entry.get("statusPurpose", REVOCATION) == REVOCATION:
                raise Revoked(f"it is revoked by {str(entry.get('id'))[:200]}")
            suspended.append(str(entry.get("id"))[:200])
    if not suspended and _is_suspended_here(document, entries, report.visit):
        suspended.append("this server, which has issued it")
    if suspended:
        raise Suspended(f"it is suspended by {suspended[0]}")
    return f"{len(entries)} lists asked" if entries else "it names no list"


def _is_suspended_here(document: Json, entries: list[dict[str, Any]], visit: Visit) -> bool:
    """Of a badge of this server that names no place to be suspended at: the server knows that place."""
    url = id_of(document) or ""
    if not BADGE.search(url) or any(entry.get("statusPurpose") == SUSPENSION for entry in entries):
        return False
    found = visit.at_home(f"{url}/verify")
    return found is not None and bool(read_object(found.content).get("isSuspended"))


def _is_set(entry: dict[str, Any], document: Json, issuer: str, report: Report) -> bool:
    kinds = listed(entry.get("type"))
    if ONE_EDTECH in kinds:
        return _is_listed(entry, document, report.visit)
    kind = next((each for each in (BITSTRING, *OLDER) if each in kinds), None)
    if kind is None:
        raise Fault(f"a list of the kind {str(kinds)[:200]} is not known")
    if entry.get("statusSize") not in ONE_BIT:
        raise Fault("a list with more than one bit per credential is not known")
    url, index = (entry.get(f"{'revocation' if kind == LIST_2020 else 'status'}List{name}") for name in PLACE)
    purpose = REVOCATION if kind == LIST_2020 else entry.get("statusPurpose")
    if not isinstance(url, str) or not isinstance(purpose, str):
        raise Fault("a place in a list names no list, or no purpose")
    subject = _signed_list(url, issuer, report)
    if kind in OLDER and OLDER[kind] not in listed(subject.get("type")):
        raise Fault(f"the list {url[:200]} is of another kind")
    if kind != LIST_2020 and purpose not in listed(subject.get("statusPurpose")):
        raise Fault(f"the list {url[:200]} is for another purpose")
    bit = _bit(decode_encoded_list(subject["encodedList"]), str(index))
    # A bit of any other purpose is a message, and says nothing about validity.
    return bit and purpose in (REVOCATION, SUSPENSION)


def _bit(bits: bytes, index: str) -> bool:
    place = int(index) if index.isascii() and index.isdigit() else -1
    if not 0 <= place < len(bits) * 8:
        raise Fault(f"the list has no place {index[:50]}")
    return bool(bits[place // 8] & 0x80 >> place % 8)


def _is_listed(entry: dict[str, Any], document: Json, visit: Visit) -> bool:
    """1EdTech's own list: it names those that are revoked, and is believed for standing where it does."""
    url = id_of(entry)
    if url is None:
        raise Fault("the list of revoked credentials has no address")
    revoked = listed(read_object(visit(url)).get("revokedCredential"))
    names = {id_of(each) for each in revoked if not isinstance(each, dict) or each.get("revoked", True)}
    return id_of(document) in names


def _signed_list(url: str, issuer: str, report: Report) -> dict[str, Any]:
    """The subject of a list that the issuer of the badge has signed, and that is of now."""
    text = report.visit(url).decode("utf-8").strip()
    if len(text) > LIST_LIMIT:
        raise Fault(f"the list {url[:200]} is too large")
    document = _read_list(text, issuer, report.visit)
    if id_of(document) != url or id_of(document.get("issuer")) != issuer:
        raise Fault(f"the list {url[:200]} is another one, or another issuer's")
    for name, is_over in BOUNDS:
        if name in document and is_over(str(document[name]), report.now):
            raise Fault(f"the list {url[:200]} is not of now: {name} {str(document[name])[:50]}")
    subject = document.get("credentialSubject")
    if not isinstance(subject, dict):
        raise Fault(f"the list {url[:200]} is none")
    return subject


def _read_list(text: str, issuer: str, visit: Visit) -> Json:
    if is_token(text):
        header, document = read_token(text)
        pem = find_key(issuer, header.get("kid"), visit)  # type: ignore[arg-type]
        jwt.decode(text, pem, algorithms=algorithms_of(pem), options=WITHOUT_TIME)
        return vc.credential_in(document)
    document = read_object(text)
    proof = document.get("proof")
    if not isinstance(proof, dict):
        raise Fault("the list is not signed")
    pem = find_key(issuer, proof.get("verificationMethod"), visit)
    if earlier.is_earlier(document, proof):
        earlier.verify(document, proof, pem)
    else:
        verify_data_integrity_proof(document, pem)
    return document


def _is_past(text: str, now: datetime) -> bool:
    return datetime.fromisoformat(text) < now


def _is_future(text: str, now: datetime) -> bool:
    return datetime.fromisoformat(text) > now + LEEWAY


BOUNDS = (
    ("validUntil", _is_past),
    ("expirationDate", _is_past),
    ("validFrom", _is_future),
    ("issuanceDate", _is_future),
)
