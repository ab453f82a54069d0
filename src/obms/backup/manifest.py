"""What is written beside an image: the manifest that commits it, and the verdict about it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, Self

from obms.backup.signing import Signer, is_signature
from obms.errors import BackupDamaged, NotProven

FORMAT = 2  # 1 knew no signatures
MANIFEST_END = ".json"
VERDICT_END = ".proof.json"
LEVELS = ("intact", "restorable", "proven")
KNOWN_BY_HEART = 500  # a run reads the catalogue several times

Level = Literal["intact", "restorable", "proven"]
Outcome = Literal["good", "bad", "unknown"]
Signature = Literal["ours", "other", "none"]

# Members that came later: where they are empty they are not written, so that older documents stay whole.
LATER = ("recipients", "newest_live", "signed_by", "signature")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at, and the figures that were seen."""

    name: str
    ok: bool
    detail: str


class Document:
    """JSON that notices each changed byte: it ends with a digest of itself, and has one spelling only."""

    signed_by: str
    signature: str

    def to_bytes(self) -> bytes:
        content = self._content()
        return _spell(content | {"digest": _digest(content)})

    def signed(self, signer: Signer | None) -> Self:
        """This document with a signature; without a signer, with none."""
        named = replace(self, signed_by=signer.public if signer else "", signature="")  # type: ignore[type-var]
        if signer is None:
            return named
        return replace(named, signature=signer.sign(named.statement()))  # type: ignore[type-var]

    def signature_seen_by(self, trusted: str | None) -> Signature:
        """Whose signature it bears, to one who trusts this public key."""
        if not self.signature:
            return "none"
        return "ours" if self.signed_by == trusted else "other"

    def _content(self) -> dict[str, object]:
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        return {name: getattr(self, name) for name in names if name not in LATER or getattr(self, name)}

    def statement(self) -> bytes:
        """What is signed: the kind of document, and all of it but the signature."""
        content = {name: value for name, value in self._content().items() if name != "signature"}
        return type(self).__name__.encode() + b"\n" + _spell(content)

    @classmethod
    def from_bytes(cls, name: str, data: bytes) -> Self:
        """BackupDamaged unless `data` is what `to_bytes` wrote, with no signature or a true one."""
        document: Self = _document_of(cls, name, data)  # type: ignore[arg-type]  # a class is hashable
        return document

    @classmethod
    def read(cls, key: str, value: Any) -> Any:
        if key.endswith("_at"):
            return datetime.fromisoformat(value)
        if key == "checks":
            return tuple(Check(**check) for check in value)
        return tuple(value) if isinstance(value, list) else value


@lru_cache(maxsize=KNOWN_BY_HEART)
def _document_of(kind: type[Document], name: str, data: bytes) -> Any:
    try:
        content = json.loads(data)
        del content["digest"]
        document = kind(**{key: kind.read(key, value) for key, value in content.items()})
        spelled = document.to_bytes()
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise BackupDamaged(name=name, detail="it cannot be read") from error
    if spelled != data:  # its digest is in there
        raise BackupDamaged(name=name, detail="it was changed after it was written")
    signed = document.signed_by or document.signature
    if signed and not is_signature(document.signed_by, document.signature, document.statement()):
        raise BackupDamaged(name=name, detail="its signature is not that of its content")
    return document


def _digest(content: Mapping[str, object]) -> str:
    return hashlib.sha256(_spell(content)).hexdigest()


def _spell(content: Mapping[str, object]) -> bytes:
    text = json.dumps(content, default=_plain, ensure_ascii=False, indent=2, sort_keys=True)
    return text.encode() + b"\n"


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return asdict(value)  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Document):
    """An image and all that is known of it without opening it. Sizes are in bytes, times in UTC.

    `digests` is empty for SQLite: there the image is the snapshot, so that its hash is the content.
    """

    id: str
    file: str
    reason: str
    database: str
    server_version: str
    app_version: str
    revision: str | None
    started_at: datetime
    ended_at: datetime
    codecs: tuple[str, ...]
    raw_bytes: int
    raw_sha256: str
    bytes: int
    sha256: str
    rows: Mapping[str, int]
    digests: Mapping[str, str]
    sealing_key: str | None
    tools: Mapping[str, str]
    recipients: tuple[str, ...] = ()
    signed_by: str = ""
    signature: str = ""
    format: int = FORMAT

    @property
    def fingerprint(self) -> str:
        """What a verdict names the manifest by."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Document):
    """What a proof found: `level` is the highest one that holds.

    `bad` says that the backup is bad; `unknown` that it could not be judged. It holds for the
    manifest it names, and for no other.
    """

    id: str
    manifest: str
    outcome: Outcome
    level: Level | None
    wanted: Level
    judged_at: datetime
    checks: tuple[Check, ...]
    hint: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    signed_by: str = ""
    signature: str = ""
    format: int = FORMAT

    @property
    def proven(self) -> bool:
        return self.outcome == "good" and self.level == "proven"

    @property
    def ok(self) -> bool:
        """Whether the level that was asked for holds."""
        return self.outcome == "good"

    @property
    def reason(self) -> str:
        """The first check that failed, in one line."""
        failed = next((check for check in self.checks if not check.ok), None)
        return f"{failed.name}: {failed.detail}" if failed else "no proof was made"

    def failure(self) -> BackupDamaged | NotProven | None:
        """What a command ends with: 5 for bytes that are not the manifest's, 6 for any other than good."""
        if self.ok:
            return None
        if self.outcome == "bad" and self.level is None:
            return BackupDamaged(name=self.id, detail=self.reason)
        detail = f"{self.outcome}: {self.reason.removesuffix('.')}"
        return NotProven(name=self.id, detail=detail, hint=self.hint or None)
