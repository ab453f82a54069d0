"""What is found out about a badge: each check by its name, and what follows from all of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import jwt
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from openbadgeslib.errors import LibOpenBadgesException

from obms.badges.baking import NotBaked, Version
from obms.badges.fetching import NotFetched, Visit
from obms.badges.reading import Unreadable
from obms.badges.signatures import BadSignature
from obms.errors import ObmsError
from obms.specs import Json

FORMAT, SCHEMA, KEY, SIGNATURE = "format", "schema", "issuer key", "signature"
EXPIRY, STATUS, RECIPIENT = "expiry", "status", "recipient"
DETAIL_LIMIT = 500
# Clocks differ.
LEEWAY = timedelta(seconds=60)


class Fault(Exception):
    """The badge does not pass a check."""


class Revoked(Fault):
    """The badge was taken back by its issuer."""


class Suspended(Fault):
    """The badge does not hold for now."""


class Expired(Fault):
    """The badge has ended."""


class Early(Fault):
    """The badge does not hold yet."""


# What judging a hostile badge may raise: it fails the check then, and the others go on.
FAULTS = (
    Fault,
    NotBaked,
    NotFetched,
    ObmsError,
    Unreadable,
    BadSignature,
    LibOpenBadgesException,
    jwt.PyJWTError,
    InvalidSignature,
    UnsupportedAlgorithm,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
CODES: dict[str, str] = {
    FORMAT: "INVALID_FORMAT",
    SCHEMA: "INVALID_SCHEMA",
    KEY: "ISSUER_KEY_NOT_FOUND",
    SIGNATURE: "INVALID_SIGNATURE",
    EXPIRY: "INVALID_FORMAT",
    STATUS: "STATUS_UNKNOWN",
    RECIPIENT: "RECIPIENT_MISMATCH",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """A badge as it was sent: `token` is the compact form, where it has one."""

    version: Version
    form: str
    document: Json
    text: str
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A check; `ok` is None where it could not be made because of another one."""

    name: str
    ok: bool | None
    detail: str


@dataclass(slots=True, kw_only=True)
class Report:
    """Collects the findings on one badge, as it is examined."""

    visit: Visit
    now: datetime
    recipient: str | None
    findings: list[Finding] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)
    exhibit: Exhibit | None = None
    issuer: str | None = None
    method: str | None = None
    cryptosuite: str | None = None

    def attempt(self, name: str, check: Callable[[], str]) -> bool:
        """Make a check that gives its figures, or raises what is wrong."""
        try:
            detail = check()
        except FAULTS as error:
            self.faults.append(error)
            self.findings.append(Finding(name=name, ok=False, detail=said(error)))
            return False
        self.findings.append(Finding(name=name, ok=True, detail=detail))
        return True

    def skip(self, name: str, why: str) -> None:
        self.findings.append(Finding(name=name, ok=None, detail=why))

    def passed(self, name: str) -> bool:
        return any(each.name == name and each.ok for each in self.findings)

    def found(self, kind: type[Exception]) -> bool:
        return any(isinstance(fault, kind) for fault in self.faults)

    @property
    def is_valid(self) -> bool:
        """Every check was made and passed."""
        return self.passed(SIGNATURE) and all(each.ok for each in self.findings)

    @property
    def gravest(self) -> Finding | None:
        """The first check that failed, in the order in which they speak for each other."""
        return next((each for each in self.findings if each.ok is False), None)

    @property
    def error_code(self) -> str | None:
        """The gravest thing found."""
        worst = self.gravest
        if worst is None:
            return None
        if worst.name == FORMAT and self.found(NotFetched):
            return "NOT_FETCHED"
        if worst.name in (FORMAT, SCHEMA, KEY, SIGNATURE) and not self.found(Revoked):
            return CODES[worst.name]
        kinds = (
            (Revoked, "CREDENTIAL_REVOKED"),
            (Suspended, "CREDENTIAL_SUSPENDED"),
            (Expired, "CREDENTIAL_EXPIRED"),
            (Early, "CREDENTIAL_NOT_YET_VALID"),
        )
        return next((code for kind, code in kinds if self.found(kind)), None) or CODES[worst.name]


def said(error: BaseException) -> str:
    """What an error says, on one line and not without end."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.encode("utf-8", "replace").decode()[:DETAIL_LIMIT]


def check_window(report: Report, start: datetime | None, end: datetime | None) -> str:
    """Fault outside of the time in which a badge holds; both ends are given with their zone."""
    if end is not None and end < report.now:
        raise Expired(f"it ended on {end.isoformat()}")
    if start is not None and start > report.now + LEEWAY:
        raise Early(f"it begins on {start.isoformat()}")
    return f"until {end.isoformat()}" if end else "it has no end"
