"""Verifying a badge of this server: its proof, what it says against its row, and where it stands."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from obms.badges import Site, credentials, keys, signatures, statuses
from obms.domain import ProofKind, Status
from obms.errors import NotFound
from obms.specs import Json

CRYPTOSUITES: dict[ProofKind, str] = {"data-integrity": "eddsa-rdfc-2022", "jwt": "EdDSA"}


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
    key = keys.read_key(connection, kept.key_id)
    if key is None:
        raise signatures.BadSignature(f"the key {kept.key_id} is not there")
    if key.issuer_id != kept.issuer_id:
        raise signatures.BadSignature("the key is another issuer's")
    document = signatures.check(kept.document, kept.proof, key.public_pem)
    for complaint in contradictions(kept, document):
        raise signatures.BadSignature(complaint)
    return document


def contradictions(kept: credentials.Kept, document: Json) -> list[str]:
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
    detail = None
    try:
        check_proof(connection, kept)
    except signatures.BadSignature as error:
        detail = str(error)
    now = site.clock()
    # Without a place in a list nobody could ever have revoked it: that is not a sound badge of ours.
    status = statuses.read_status(connection, kept.id)
    if status is None:
        detail = detail or "it has no place in a status list"
    return _verdict(kept, status, detail, now)


def _verdict(kept: credentials.Kept, status: Status | None, detail: str | None, now: datetime) -> Verdict:
    return Verdict(
        has_valid_signature=detail is None,
        is_expired=kept.has_expired(now),
        is_early=kept.issued_at > now,
        is_revoked=status is not None and status.revoked,
        is_suspended=status is not None and status.suspended,
        detail=detail or (status.reason if status else None),
        verified_at=now,
        verification_method=signatures.method_of(kept.document, kept.proof) if detail is None else None,
        cryptosuite=CRYPTOSUITES[kept.proof],
    )


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
