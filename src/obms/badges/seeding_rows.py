"""The rows of a stretch of seeded credentials, really signed; any stretch can be made by any process."""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

from obms.badges import keys, proofs, statuses
from obms.badges.building import build
from obms.badges.profiles import present
from obms.badges.seeding_cast import EPOCH, OPENED, ROTATED, Cast, SeededKey, seeded_id
from obms.badges.seeding_company import result_of
from obms.badges.seeding_words import EVIDENCE_NAMES, NARRATIVES, PEOPLE, REASONS
from obms.badges.signers import HeldKey
from obms.domain import (
    PURPOSES,
    REVOCATION,
    SUSPENSION,
    Credential,
    ProofKind,
    Purpose,
    Recipient,
    Result,
    StatusEntry,
)
from obms.specs import Json, credential_url, iso, issuer_did, ob3, vc

# Which issuer the n-th credential is from, again and again: some issue more than others.
ORDER = (0, 1, 0, 2, 1, 3, 0, 4, 1, 5, 0, 6, 2, 7, 3, 0)
SHARE_REVOKED, SHARE_SUSPENDED, SHARE_EXPIRING, SHARE_EVIDENCE, SHARE_NARRATIVE = 0.02, 0.01, 0.25, 0.5, 0.4
DAYS_BEFORE, DAYS_AFTER = (ROTATED - OPENED).days - 60, (EPOCH - ROTATED).days - 60
# RSA signs a tenth as fast: of its issuer's tokens only this share, and the second one already.
RSA_TURN, RSA_EVERY = 1, 24
Rows = dict[str, list[dict[str, Any]]]


def given(issuer: int, credentials: int) -> int:
    """How many of the first `credentials` are from an issuer."""
    rounds, place = divmod(credentials, len(ORDER))
    return rounds * ORDER.count(issuer) + ORDER[:place].count(issuer)


@lru_cache(maxsize=4096)
def list_id(seed: int, issuer: int, purpose: Purpose, nth: int) -> str:
    return seeded_id(seed, "list", issuer, purpose, nth)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The document of an achievement without what differs from one recipient to the next."""

    document: Json
    subject: Json


class Writer:
    """Makes rows in one process, with the keys open and the templates at hand."""

    def __init__(self, cast: Cast, proof: ProofKind) -> None:
        self.cast = cast
        self.proof = proof
        self._templates = [
            [_template(cast, number, place) for place in range(len(own))]
            for number, own in enumerate(cast.achievements)
        ]
        self._signers = {
            key.id: _signer(cast, number, key, proof) for number, own in enumerate(cast.keys) for key in own
        }

    def rows(self, first: int, last: int) -> Rows:
        """The rows of the credentials from `first` up to `last`; `first` decides the chances."""
        chance = random.Random(f"{self.cast.seed}/{first}")  # chance, but the same each time
        rows: Rows = {"credentials": [], "status_entries": [], "revocations": []}
        for number in range(first, last):
            self._add(rows, number, chance)
        return rows

    def _add(self, rows: Rows, number: int, chance: random.Random) -> None:
        issuer = ORDER[number % len(ORDER)]
        nth = given(issuer, number)
        id = seeded_id(self.cast.seed, "credential", number)
        row = self._credential(number, id, issuer, nth, chance)
        entries = [_entry(self.cast.seed, issuer, purpose, nth) for purpose in PURPOSES]
        row["document"] = self._document(row, issuer, entries)
        del row["place"]
        rows["credentials"].append(row)
        fate = chance.random()
        fates = {REVOCATION: fate < SHARE_REVOKED, SUSPENSION: 1 - fate < SHARE_SUSPENDED}
        for entry in entries:
            value = fates[entry.purpose]
            key = {"credential_id": id, "purpose": entry.purpose}
            rows["status_entries"].append(
                {**key, "list_id": entry.list_id, "position": entry.position, "value": value}
            )
            if value:
                revoked_at = row["issued_at"] + timedelta(days=chance.randrange(1, 30))
                rows["revocations"].append(
                    {**key, "reason": chance.choice(REASONS), "revoked_at": revoked_at}
                )

    def _credential(
        self, number: int, id: str, issuer: int, nth: int, chance: random.Random
    ) -> dict[str, Any]:
        """The row without its document; `place` is that of the achievement."""
        own = [key for key in self.cast.keys[issuer] if key.algorithm == keys.ED25519]
        key = own[chance.randrange(len(own))]
        if self.proof == "jwt" and nth % RSA_EVERY == RSA_TURN:
            key = next((key for key in self.cast.keys[issuer] if key.algorithm == keys.RSA), key)
        opened, days = (OPENED, DAYS_BEFORE) if key.retired else (ROTATED, DAYS_AFTER)
        issued_at = opened + timedelta(days=chance.randrange(10, days), seconds=chance.randrange(86400))
        place = chance.randrange(len(self.cast.achievements[issuer]))
        achievement = self.cast.achievements[issuer][place]
        return {
            "id": id,
            "issuer_id": self.cast.issuers[issuer].id,
            "achievement_id": achievement.id,
            "key_id": key.id,
            "proof": self.proof,
            "place": place,
            "recipient": _recipient(number, chance),
            "extra": _extra(number, chance, result_of(achievement, number)),
            "issued_at": issued_at,
            # Half of those that end have ended, whenever it is looked at; the others end in twenty years.
            "expires_at": issued_at + timedelta(days=chance.choice((30, 20 * 365)))
            if chance.random() < SHARE_EXPIRING
            else None,
            "created_at": issued_at + timedelta(microseconds=number % 1_000_000),
        }

    def _document(self, row: dict[str, Any], issuer: int, entries: Sequence[StatusEntry]) -> str:
        template = self._templates[issuer][row["place"]]
        extra = row["extra"] or {}
        subject = dict(template.subject, identifier=[ob3.identity_object(Recipient(**row["recipient"]))])
        if "narrative" in extra:
            subject["narrative"] = extra["narrative"]
        if "results" in extra:
            subject["result"] = [ob3.result_object(result) for result in build(Result, extra["results"])]
        document = {
            **template.document,
            "id": credential_url(self.cast.site_url, row["id"]),
            "validFrom": iso(row["issued_at"]),
            "credentialSubject": subject,
            "credentialStatus": ob3.status_member(entries, self.cast.site_url),
        }
        if row["expires_at"]:
            document["validUntil"] = iso(row["expires_at"])
        if "evidence" in extra:
            document["evidence"] = [_evidence(evidence) for evidence in extra["evidence"]]
        return self._signers[row["key_id"]](document, row)


Sign = Callable[[Json, dict[str, Any]], str]


def _template(cast: Cast, issuer: int, place: int) -> Template:
    achievement = cast.achievements[issuer][place]
    document = ob3.credential_document(
        Credential(
            id="",
            issuer=cast.issuers[issuer],
            achievement=achievement,
            recipient=Recipient(type="email", identity="x", hashed=True),
            issued_at=EPOCH,
        ),
        cast.site_url,
    )
    subject = document["credentialSubject"]
    if not isinstance(subject, dict):
        raise TypeError("the subject of a credential is an object")
    return Template(document=document, subject=subject)


def _entry(seed: int, issuer: int, purpose: Purpose, nth: int) -> StatusEntry:
    which, counter = divmod(nth, statuses.LIST_SIZE)
    id = list_id(seed, issuer, purpose, which)
    return StatusEntry(
        purpose=purpose, list_id=id, position=statuses.scatter(id, statuses.LIST_SIZE, counter)
    )


def _recipient(number: int, chance: random.Random) -> dict[str, Any]:
    salt = f"{chance.getrandbits(64):016x}"
    person = f"{chance.choice(PEOPLE)}.{number}@example.org"
    digest = hashlib.sha256(f"{person}{salt}".encode()).hexdigest()
    return {"type": "email", "identity": f"sha256${digest}", "hashed": True, "salt": salt}


def _extra(number: int, chance: random.Random, result: Result | None) -> dict[str, Any] | None:
    extra: dict[str, Any] = {"results": [present(asdict(result))]} if result else {}
    if chance.random() < SHARE_EVIDENCE:
        name, story = chance.choice(EVIDENCE_NAMES), chance.choice(NARRATIVES)
        extra["evidence"] = [{"url": f"https://work.example.org/{number}", "name": name, "narrative": story}]
    if chance.random() < SHARE_NARRATIVE:
        extra["narrative"] = chance.choice(NARRATIVES)
    return extra or None


def _evidence(evidence: dict[str, str]) -> Json:
    return {
        "id": evidence["url"],
        "type": ["Evidence"],
        "narrative": evidence["narrative"],
        "name": evidence["name"],
    }


def _signer(cast: Cast, issuer: int, key: SeededKey, proof: ProofKind) -> Sign:
    signer = HeldKey(
        alg=keys.JOSE_NAMES[key.algorithm],
        kid=f"{issuer_did(cast.site_url, cast.issuers[issuer].id)}#{key.id}",
        private=keys.read_private(key.algorithm, key.private),
    )

    def sign(document: Json, row: dict[str, Any]) -> str:
        if proof == "jwt":
            return proofs.make_token(vc.jwt_claims(document), signer)
        return proofs.add_proof(document, signer, row["issued_at"])

    return sign
