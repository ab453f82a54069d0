"""The words of the trade, free of any version of the standard: issuers, achievements, credentials."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Purpose = Literal["revocation", "suspension"]
ProofKind = Literal["data-integrity", "jwt"]
Algorithm = Literal["Ed25519", "RSA"]
JoseName = Literal["RS256", "EdDSA"]

REVOCATION: Purpose = "revocation"
SUSPENSION: Purpose = "suspension"
PURPOSES: tuple[Purpose, ...] = (REVOCATION, SUSPENSION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A picture that stands somewhere on the web (or in a `data:` URL)."""

    url: str
    caption: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who issues. `extra` holds what a client sent beside, as JSON: `public_key` is one of its own."""

    id: str
    name: str
    url: str
    email: str | None = None
    description: str | None = None
    image: Image | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What has to be done to earn an achievement: a page, a text, or both."""

    url: str | None = None
    narrative: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """The node of an educational framework that an achievement answers to."""

    target_name: str
    target_url: str
    target_framework: str | None = None
    target_code: str | None = None
    target_description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level of a rubric, from which a result may name the one that was reached."""

    id: str
    name: str
    level: str | None = None
    description: str | None = None
    points: str | None = None
    alignments: tuple[Alignment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultDescription:
    """A result that an achievement may have, and what it may be."""

    id: str
    name: str
    result_type: str
    allowed_values: tuple[str, ...] = ()
    required_level: str | None = None
    required_value: str | None = None
    value_min: str | None = None
    value_max: str | None = None
    levels: tuple[Level, ...] = ()
    alignments: tuple[Alignment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the recipient reached."""

    result_description: str | None = None
    value: str | None = None
    status: str | None = None
    achieved_level: str | None = None
    alignments: tuple[Alignment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """Another achievement that this one is akin to: the bare id of one of ours, or the URL of another's."""

    id: str
    in_language: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endorsement:
    """What somebody says for an achievement, as a credential of their own, as it was signed.

    `document` is JSON, or a compact token. Only what is `proven` goes into badges: its proof was
    checked by a key that was at hand.
    """

    id: str
    document: str
    proven: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Achievement:
    """What is earned (a BadgeClass of 2.0)."""

    id: str
    issuer_id: str
    name: str
    description: str
    criteria: Criteria
    achievement_type: str | None = None
    image: Image | None = None
    tags: tuple[str, ...] = ()
    alignments: tuple[Alignment, ...] = ()
    version: str | None = None
    previous_version: str | None = None
    result_descriptions: tuple[ResultDescription, ...] = ()
    related: tuple[Related, ...] = ()
    endorsements: tuple[Endorsement, ...] = ()
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """Who earned it, as published: where `hashed`, `identity` is `sha256$...` over identity and salt."""

    type: str
    identity: str
    hashed: bool
    salt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Something that shows it was earned."""

    url: str | None = None
    narrative: str | None = None
    name: str | None = None
    description: str | None = None
    genre: str | None = None
    audience: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEntry:
    """The bit of a status list that speaks for a credential."""

    purpose: Purpose
    list_id: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One achievement of one recipient (an Assertion of 2.0), before it is signed."""

    id: str
    issuer: Issuer
    achievement: Achievement
    recipient: Recipient
    issued_at: datetime
    expires_at: datetime | None = None
    evidence: tuple[Evidence, ...] = ()
    narrative: str | None = None
    image: Image | None = None
    results: tuple[Result, ...] = ()
    statuses: tuple[StatusEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where a credential stands; `reason` and `since` are those of the revocation, else of the suspension."""

    revoked: bool
    suspended: bool
    reason: str | None = None
    since: datetime | None = None
