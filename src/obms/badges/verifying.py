"""Verifying a badge of this server: its proof, what it says against its row, and where it stands."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import sqlalchemy as sa

from obms.badges import Site, credentials, keys, signatures, statuses
from obms.domain import ProofKind, Status
from obms.errors import NotFound
from obms.specs import Json


class Judged(Protocol):
    """What a verdict needs of the row of a credential."""

    @property
    def id(self) -> str: ...
    @property
    def issuer_id(self) -> str: ...
    @property
    def achievement_id(self) -> str: ...
    @property
    def key_id(self) -> str: ...
    @property
    def proof(self) -> ProofKind: ...
    @property
    def document(self) -> str: ...
    @property
    def issued_at(self) -> datetime: ...
    @property
    def expires_at(self) -> datetime | None: ...


class PublicPart(Protocol):
    """What it needs of the row of a key."""

    @property
    def issuer_id(self) -> str: ...
    @property
    def public_pem(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of it; `is_valid` asks for all: a right proof, in its time, neither revoked nor suspended."""

    has_valid_signature: bool
    is_expired: bool
    is_early: bool
    is_revoked: bool
    is_suspended: bool
    detail: str | None
    verified_at: datetime
    verification_method: str | None
    cryptosuite: str
    checks: tuple[Check, ...] = ()

    @property
    def is_valid(self) -> bool:
        return self.has_valid_signature and self.error_code is None

    @property
    def error_code(self) -> str | None:
        """The gravest thing found."""
        if not self.has_valid_signature:
            return "INVALID_SIGNATURE"
        found = (
            (self.is_revoked, "CREDENTIAL_REVOKED"),
            (self.is_suspended, "CREDENTIAL_SUSPENDED"),
            (self.is_expired, "CREDENTIAL_EXPIRED"),
            (self.is_early, "CREDENTIAL_NOT_YET_VALID"),
        )
        return next((code for is_so, code in found if is_so), None)


def check_proof(connection: sa.Connection, kept: credentials.Kept) -> Json:
    """The credential that was signed. BadSignature if the proof is wrong or it is not what its row says."""
    document = signatures.check(
        kept.document, kept.proof, _issuer_key(kept, keys.read_key(connection, kept.key_id)).public_pem
    )
    for complaint in contradictions(kept, document):
        raise signatures.BadSignature(complaint)
    return document


def _issuer_key(kept: Judged, key: PublicPart | None) -> PublicPart:
    if key is None:
        raise signatures.BadSignature(f"the key {kept.key_id} is not there")
    if key.issuer_id != kept.issuer_id:
        raise signatures.BadSignature("the key is another issuer's")
    return key


def contradictions(kept: Judged, document: Json) -> list[str]:
    """Where a document says otherwise than its row.

    Addresses are compared by their ends: a database restored on another host keeps the badges
    that were issued under the first one's name.
    """
    found = []
    issuer = document.get("issuer")
    subject = document.get("credentialSubject")
    achievement = subject.get("achievement") if isinstance(subject, dict) else None
    pairs = (
        ("id", document.get("id"), f"/credentials/{kept.id}"),
        ("issuer", issuer.get("id") if isinstance(issuer, dict) else None, f":issuers:{kept.issuer_id}"),
        (
            "achievement",
            achievement.get("id") if isinstance(achievement, dict) else None,
            f"/achievements/{kept.achievement_id}",
        ),
    )
    for name, said, end in pairs:
        if not str(said).endswith(end):
            found.append(f"its {name} is {said!r}, and its row's ends in {end!r}")
    return found


def judge(connection: sa.Connection, site: Site, kept: credentials.Kept) -> Verdict:
    """The verdict on a kept credential."""
    key = keys.read_key(connection, kept.key_id)
    return pronounce(kept, key, statuses.read_status(connection, kept.id), site.clock())


def pronounce(
    kept: Judged,
    key: PublicPart | None,
    status: Status | None,
    now: datetime,
    check: Callable[[str, ProofKind, str], Json] = signatures.check,
) -> Verdict:
    """The verdict on what a database holds of a credential."""
    proven = _check_in_turn(kept, key, check)
    # Without a place in a list nobody could ever have revoked it: that is not a sound badge of ours.
    proven.append(_check("status", None if status else "it has no place in a status list"))
    detail = next((check.detail for check in proven if not check.ok), None)
    verdict = Verdict(
        has_valid_signature=detail is None,
        is_expired=kept.expires_at is not None and kept.expires_at < now,
        is_early=kept.issued_at > now,
        is_revoked=status is not None and status.revoked,
        is_suspended=status is not None and status.suspended,
        detail=detail or (status.reason if status else None),
        verified_at=now,
        verification_method=signatures.method_of(kept.document, kept.proof) if detail is None else None,
        cryptosuite=signatures.suite_of(kept.document, kept.proof),
    )
    return replace(verdict, checks=(*proven, *_standing(verdict)))


def _check_in_turn(
    kept: Judged, key: PublicPart | None, check: Callable[[str, ProofKind, str], Json]
) -> list[Check]:
    """The checks of the proof, up to the first that fails: it leaves nothing to judge for the next one."""
    checks: list[Check] = []
    try:
        public_pem = _issuer_key(kept, key).public_pem
        checks.append(_check("key", None))
        document = check(kept.document, kept.proof, public_pem)
        checks.append(_check("signature", None))
    except signatures.BadSignature as error:
        return [*checks, _check("signature" if checks else "key", str(error))]
    return [*checks, _check("content", "; ".join(contradictions(kept, document)) or None)]


def _check(name: str, complaint: str | None) -> Check:
    return Check(name=name, ok=complaint is None, detail=complaint or "")


def _standing(verdict: Verdict) -> Iterator[Check]:
    """What holds of a badge at this moment, whatever its proof is worth."""
    yield _check("revocation", "it is revoked" if verdict.is_revoked else None)
    yield _check("suspension", "it is suspended" if verdict.is_suspended else None)
    yield _check("expiry", "it has expired" if verdict.is_expired else None)
    yield _check("start", "it is not valid yet" if verdict.is_early else None)


def verify(connection: sa.Connection, site: Site, credential_id: str) -> Verdict | None:
    """The verdict on a credential; None for one that was deleted, whose revocation remains; NotFound."""
    try:
        return judge(connection, site, credentials.find(connection, credential_id))
    except NotFound:
        if is_deleted(connection, credential_id):
            return None
        raise


def is_deleted(connection: sa.Connection, credential_id: str) -> bool:
    """Whether a credential that is not there was: its revocation stays."""
    status = statuses.read_status(connection, credential_id)
    return status is not None and status.revoked
