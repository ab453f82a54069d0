"""Tests of the badges of a running server: each as its holder would show it, and a stranger verify it."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, get_args

from openbadgeslib.ob3 import decode_encoded_list, set_indices, verify_data_integrity_proof

from obms.backup.manifest import Check
from obms.badges import examining, signatures
from obms.badges.reading import listed
from obms.domain import REVOCATION, SUSPENSION, ProofKind, Purpose
from obms.looking.outside import JWT_TYPE, Outside, Unfit
from obms.looking.samples import Held
from obms.looking.visit import UNREADABLE, Step, Visit, checked, said
from obms.specs import Json

PATH_OF_A_LIST = re.compile(r"/status-lists/[0-9A-Fa-f-]{36}")
WORDS: dict[Purpose, str] = {REVOCATION: "isRevoked", SUSPENSION: "isSuspended"}
FEW = 10
PROOF_KINDS = get_args(ProofKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A credential with its proof: as the server gives it, or else as its holder has it."""

    text: str
    proof: ProofKind


def _credentials_verify(visit: Visit) -> Check:
    name = "credentials verify"
    if not visit.sample.named:
        told = "no credential could be named: set AUTH_API_KEY, or run it where the database can be read"
        return Check(name=name, ok=False, detail=told)
    complaints = [
        f"{held.id}: {complaint}"
        for held in visit.sample.held
        for complaint in _complaints(visit.outside, held, visit.now)
    ]
    figures = f"{len(visit.sample.held)} credentials, named by {visit.sample.source}"
    return checked(name, complaints, figures)


def _complaints(outside: Outside, held: Held, now: datetime) -> Iterator[str]:
    try:
        verdict = outside.document(f"/credentials/{held.id}/verify")
        now_there = served(outside, held.id)
        shown = now_there or _kept(held)
        yield from _contradictions(held, verdict)
        if (now_there is None) != verdict["isRevoked"]:
            yield f"verify says isRevoked {verdict['isRevoked']}, and its own address another thing"
        if shown is None:
            return
        document = verified(outside, held.id, shown)
        if not verdict["hasValidSignature"]:
            yield f"its signature is right, and the server denies it ({verdict['details']})"
        if verdict["isExpired"] != _has_expired(document, now):
            yield f"verify says isExpired {verdict['isExpired']}, and its end is {document.get('validUntil')}"
    except UNREADABLE as error:
        yield said(error)


def _contradictions(held: Held, verdict: Json) -> Iterator[str]:
    if held.marks is None:
        return
    for purpose, word in WORDS.items():
        if verdict[word] != (purpose in held.marks):
            yield f"verify says {word} {verdict[word]}, and the database {purpose in held.marks}"


def _has_expired(document: Json, now: datetime) -> bool:
    end = document.get("validUntil")
    return end is not None and datetime.fromisoformat(str(end)) < now


def _kept(held: Held) -> Shown | None:
    return Shown(text=held.text, proof=held.proof) if held.text and held.proof else None


def served(outside: Outside, id: str) -> Shown | None:
    """The credential as it was signed; None for one that was revoked."""
    answer = outside.get(f"/credentials/{id}")
    if answer.status_code == HTTPStatus.OK and "proof" in answer.json():
        return Shown(text=answer.text, proof="data-integrity")
    if answer.status_code == HTTPStatus.OK:
        answer = outside.get(f"/credentials/{id}", accept=JWT_TYPE)
    if answer.status_code == HTTPStatus.GONE:
        return None
    if answer.status_code != HTTPStatus.OK:
        raise Unfit(f"it answers {answer.status_code}")
    return Shown(text=answer.text, proof="jwt")


def verified(outside: Outside, id: str, shown: Shown) -> Json:
    """What the credential says; BadSignature or Unfit where the keys of its issuer do not stand by it."""
    method = signatures.method_of(shown.text, shown.proof)
    document = signatures.check(shown.text, shown.proof, outside.public_key(method))
    issuer = document["issuer"]
    if not isinstance(issuer, dict) or (method or "").partition("#")[0] != issuer.get("id"):
        raise Unfit("it is signed by another than its issuer")
    if not str(document["id"]).endswith(f"/credentials/{id}"):
        raise Unfit(f"at its address stands another: {document['id']}")
    return document


def _status_lists_agree(visit: Visit) -> Check:
    """The bit of each credential in its signed lists, against what `verify` and the database say of it."""
    complaints, read = [], set[str]()
    for held in (one for one in visit.sample.held if one.document):
        try:
            for path, complaint in _bits(visit, held):
                read.add(path)
                complaints += [f"{held.id}: {complaint}"] if complaint else []
        except UNREADABLE as error:
            complaints.append(f"{held.id}: {said(error)}")
    return checked("status lists agree", complaints, f"{len(read)} signed lists")


def _bits(visit: Visit, held: Held) -> Iterator[tuple[str, str | None]]:
    """Each list that a credential is in, with what is wrong there."""
    verdict = visit.outside.document(f"/credentials/{held.id}/verify")
    for purpose, path, index in _places(held):
        wanted = bool(verdict[WORDS[purpose]]) if held.marks is None else purpose in held.marks
        stated = index in positions(visit, path, purpose, held.document["issuer"])
        complaint = f"its bit for {purpose} is {stated}, and it should be {wanted}"
        yield path, None if stated == wanted else complaint


def _places(held: Held) -> Iterator[tuple[Purpose, str, int]]:
    """Those that it names, and those that only the database knows."""
    named = set()
    for entry in listed(held.document["credentialStatus"]):
        found = PATH_OF_A_LIST.search(entry["statusListCredential"])
        if found is None:
            raise Unfit(f"it names the list {entry['statusListCredential']}")
        named.add(entry["statusPurpose"])
        yield entry["statusPurpose"], found[0], int(entry["statusListIndex"])
    for place in held.places:
        if place.purpose not in named:
            yield place.purpose, f"/status-lists/{place.list_id}", place.position


def positions(visit: Visit, path: str, purpose: str, issuer: object) -> frozenset[int]:
    """The bits that a list sets, once its issuer is seen to have signed it for now."""
    known = visit.outside.bits
    if path not in known:
        known[path] = _read_list(visit, path, purpose, issuer)
    return known[path]


def _read_list(visit: Visit, path: str, purpose: str, issuer: object) -> frozenset[int]:
    document: Any = visit.outside.document(path)
    method = str(document["proof"]["verificationMethod"])
    verify_data_integrity_proof(document, visit.outside.public_key(method))
    owner = str(issuer["id"] if isinstance(issuer, dict) else issuer)
    if _end(method.partition("#")[0]) != _end(owner):
        raise Unfit(f"{path} is signed by {method}, which is no key of its issuer")
    subject = document["credentialSubject"]
    if not str(document["id"]).endswith(path) or subject["statusPurpose"] != purpose:
        raise Unfit(f"{path} is another list")
    if _has_expired(document, visit.now):
        raise Unfit(f"{path} was valid until {document['validUntil']}")
    return frozenset(set_indices(decode_encoded_list(subject["encodedList"])))


def _end(did: str) -> str:
    return did.rpartition(":")[2]


def _refuses_a_forgery(visit: Visit) -> Check:
    """This judge is shown each kind of proof with one character changed, and must turn it down."""
    shown = _one_of_each_kind(visit)
    for id, one in shown.values():
        try:
            verified(visit.outside, id, Shown(text=examining.forged(one.text, one.proof), proof=one.proof))
        except UNREADABLE:
            continue
        told = f"a forged {one.proof} credential was accepted"
        return Check(name="refuses a forgery", ok=False, detail=told)
    return Check(name="refuses a forgery", ok=True, detail=f"{len(shown)} kinds of proof")


def _one_of_each_kind(visit: Visit) -> dict[ProofKind, tuple[str, Shown]]:
    """Of those that are served; what is wrong with the others is told elsewhere."""
    found: dict[ProofKind, tuple[str, Shown]] = {}
    for held in visit.sample.held:
        with suppress(*UNREADABLE):
            shown = served(visit.outside, held.id)
            if shown is not None:
                found.setdefault(shown.proof, (held.id, shown))
        if len(found) == len(PROOF_KINDS):
            break
    return found


def _hosted_assertions_answer(visit: Visit) -> Check:
    """The same badges as Open Badges 2.0, at the address that is their id."""
    complaints, count = [], 0
    for held in visit.sample.held[:FEW]:
        answer = visit.outside.get(f"/v2/assertions/{held.id}")
        revoked = visit.outside.document(f"/credentials/{held.id}/verify")["isRevoked"]
        wanted = HTTPStatus.GONE if revoked else HTTPStatus.OK
        count += 1
        if answer.status_code != wanted:
            complaints.append(f"/v2/assertions/{held.id} answers {answer.status_code} and not {wanted.value}")
        elif not revoked and not str(answer.json()["id"]).endswith(f"/{held.id}"):
            complaints.append(f"/v2/assertions/{held.id} is another: {answer.json()['id']}")
    return checked("hosted assertions answer", complaints, f"{count} as Open Badges 2.0")


STEPS: dict[str, Step] = {
    "credentials verify": _credentials_verify,
    "status lists agree": _status_lists_agree,
    "refuses a forgery": _refuses_a_forgery,
    "hosted assertions answer": _hosted_assertions_answer,
}
