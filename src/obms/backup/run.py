"""One run, from the lock to the record: what the schedule does and `obms backup run`."""

import json
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from obms.backup import Backups
from obms.backup.catalog import Backup, read_catalog
from obms.backup.create import create, sweep_uncommitted
from obms.backup.lock import locked
from obms.backup.manifest import Level, Manifest, Verdict
from obms.backup.prove import prove, sweep_spools
from obms.backup.source import resolve
from obms.backup.storage import Storage
from obms.errors import BackupDamaged, ObmsError
from obms.observe import Event

RECORD = "last_run.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run made; `verdict` is None when it was told not to prove."""

    manifest: Manifest
    verdict: Verdict | None
    seconds: float

    @property
    def proven(self) -> bool:
        return self.verdict is not None and self.verdict.proven


def run(backups: Backups, *, prove_it: bool = True, reason: str = "manual") -> Run:
    """Make a backup and prove it. A run that fails leaves a record of it, and raises what failed."""
    started = time.monotonic()
    began_at = backups.clock()
    with locked(backups):
        try:
            clean_up(backups)
            manifest = create(backups, reason=reason)
            verdict = prove(backups, manifest) if prove_it else None
        except ObmsError as error:
            _record(backups, began_at, error=error)
            raise
        made = Run(manifest=manifest, verdict=verdict, seconds=round(time.monotonic() - started, 3))
        _record(backups, began_at, made=made)
    return made


def clean_up(backups: Backups) -> None:
    """Remove what killed runs left behind; needs the lock."""
    for file in sweep_uncommitted(backups):
        backups.notify(Event(name="backup.swept", facts={"file": file}))
    sweep_spools(backups.work)
    backups.database.sweep()


def _record(
    backups: Backups, began_at: datetime, *, made: Run | None = None, error: ObmsError | None = None
) -> None:
    ok = made is not None and (made.verdict is None or made.proven)
    facts = {
        "id": made.manifest.id if made else None,
        "proven": made.proven if made else False,
        "error": f"{error}" if error else None,
        "exit_code": error.exit_code if error else 0,
    }
    record = {"started_at": began_at.isoformat(), "ended_at": backups.clock().isoformat(), "ok": ok, **facts}
    backups.storage.put(RECORD, iter((json.dumps(record, indent=2).encode() + b"\n",)))
    backups.notify(Event(name="backup.run", ok=ok, facts=facts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of the last run, whether it made a backup or not."""

    started_at: datetime
    ok: bool
    exit_code: int


def read_record(storage: Storage) -> Record | None:
    """The record of the last run, None where there was none or it cannot be read."""
    if RECORD not in set(storage.names(RECORD)):
        return None
    try:
        record = json.loads(b"".join(storage.get(RECORD)))
        return Record(
            started_at=datetime.fromisoformat(record["started_at"]).astimezone(UTC),
            ok=record["ok"] is True,
            exit_code=int(record["exit_code"]),
        )
    except (ValueError, LookupError, TypeError, ArithmeticError):
        return None


def verify(backups: Backups, name: str, *, level: Level = "proven") -> Verdict:
    """Judge one backup, and keep the verdict. BackupDamaged when there is no whole manifest to judge by."""
    with locked(backups):
        sweep_spools(backups.work)
        source = resolve(backups.storage, name)
        if source.manifest is None:
            raise BackupDamaged(name=source.file, detail=NO_MANIFEST, hint=ORPHAN_HINT)
        return prove(replace(backups, storage=source.storage), source.manifest, level=level)


NO_MANIFEST = "it has no manifest, so that there is nothing to compare it with"
ORPHAN_HINT = "`obms restore PATH --dry-run` tells whether a file without manifest can be restored."


def newest_proven(storage: Storage, kind: str) -> Backup | None:
    """The newest backup of this kind of database that counts."""
    backups = (backup for backup in read_catalog(storage) if backup.database == kind)
    return next((backup for backup in backups if backup.proven), None)
