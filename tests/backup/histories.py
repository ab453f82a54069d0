"""Backups as a catalogue tells them, made up in a few words: for what only looks at them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from obms.backup.catalog import Backup, State
from obms.backup.pins import Pin
from tests.backup.test_manifest import MANIFEST, SIGNER, VERDICT

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
VERDICTS = {
    "proven": VERDICT,
    "bad": replace(VERDICT, outcome="bad", level="intact"),
    "damaged": VERDICT,
}
PREFIXES = {"sqlite": "sqlite_backup_", "postgresql": "postgres_backup_"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A backup in a few words: `at` is what the clock said, `named` what its name says if that is another."""

    at: datetime
    state: State = "proven"
    kind: str = "sqlite"
    pin: str | None = None
    reason: str = "scheduled"
    rows: Mapping[str, int] | None = None
    raw_bytes: int = 1000
    named: datetime | None = None

    def backup(self) -> Backup:
        id = f"{PREFIXES[self.kind]}{(self.named or self.at):%Y-%m-%d_%H-%M-%S}"
        file = f"{id}.gz".replace(".gz", ".db.gz" if self.kind == "sqlite" else ".sql.gz")
        manifest = replace(
            MANIFEST,
            id=id,
            file=file,
            database=self.kind,
            reason=self.reason,
            started_at=self.at,
            raw_bytes=self.raw_bytes,
            rows=self.rows or MANIFEST.rows,
        ).signed(SIGNER)
        return Backup(
            id=id,
            file=file,
            database=self.kind,
            created_at=self.at,
            manifest=None if self.state == "orphan" else manifest,
            verdict=VERDICTS.get(self.state),
            problem="its image is missing" if self.state == "damaged" else None,
            trusted=SIGNER.public,
            pin=None if self.pin is None else Pin(reason=self.pin),
        )


def ago(days: float, state: State = "proven", kind: str = "sqlite", pin: str | None = None) -> Backup:
    """A backup of so many days ago."""
    return Made(at=NOW - timedelta(days=days), state=state, kind=kind, pin=pin).backup()
