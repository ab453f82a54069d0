"""One run, from the lock to the record: what the schedule does and `obms backup run`."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

from obms.backup import Backups
from obms.backup.catalog import Backup, read_catalog
from obms.backup.copies import Copy, copy_to_stores, forget_in_stores, require_copied
from obms.backup.create import create, sweep_uncommitted
from obms.backup.encryption import with_own_key
from obms.backup.later import catch_up
from obms.backup.lock import locked
from obms.backup.manifest import Level, Manifest, Verdict
from obms.backup.outdated import drop_outdated
from obms.backup.prove import prove, sweep_spools
from obms.backup.prune import Place, Retained, retain, sweep_removals
from obms.backup.recipients import remember_openers
from obms.backup.rereading import reread
from obms.backup.shipping import ship_to_all
from obms.backup.source import resolve
from obms.backup.stages import Stages
from obms.backup.storage import Storage
from obms.backup.superseded import sweep_superseded
from obms.backup.time_limit import time_limit
from obms.backup.trust import NOTHING_MORE, Accepted
from obms.errors import BackupDamaged, LockHeld, ObmsError, RunBroken, RunEnded, StorageFailed
from obms.observe import Event

RECORD = "last_run.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run made; `verdict` is None when it was told not to prove. `stages` are seconds of each.

    `journal_problem` tells why the journal could not be brought up to date; the backup stands all the same.
    So it does where an older one that was read again is not what it was, which `rotten` tells.
    """

    manifest: Manifest
    verdict: Verdict | None
    seconds: float
    stages: Mapping[str, float]
    copies: tuple[Copy, ...] = ()
    journal_problem: str | None = None
    rotten: ObmsError | None = None
    retained: Retained = field(default_factory=Retained)

    @property
    def proven(self) -> bool:
        return self.verdict is not None and self.verdict.proven


def run(backups: Backups, *, prove_it: bool = True, reason: str = "manual") -> Run:
    """Make a backup, prove it and copy it. A run that fails leaves a record of it, and raises what failed.

    A store that fails does not raise: what was made is whole, and `copies` tells the rest.
    """
    stages = Stages()
    began_at = backups.clock()
    made: Run | None = None

    def record_failure(error: ObmsError) -> None:
        record(backups, began_at, stages.seconds, made=made, error=error)

    with ExitStack() as held:
        try:
            held.enter_context(locked(backups))
            with time_limit(backups.timeout, lambda: stages.current, record_failure):
                clean_up(backups)
                backups = replace(backups, chain=with_own_key(backups.chain))
                made = _made(backups, stages, prove_it=prove_it, reason=reason)
                stages.begin("copy")
                made = _copied(backups, made)
                stages.begin("retain")
                made = _retained(backups, made)
        except LockHeld:
            raise  # the record is that of the run which holds it
        except BaseException as error:
            record_failure(_as_told(error, stages.current))
            raise
        made = replace(made, seconds=stages.total, stages=stages.seconds)
        record(backups, began_at, stages.seconds, made=made, error=failure(made))
    return made


def _as_told(error: BaseException, stage: str) -> ObmsError:
    """What ended a run, as it is recorded: whatever it was."""
    if isinstance(error, ObmsError):
        return error
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return RunEnded(stage=stage)
    return RunBroken(stage=stage, detail=repr(error))


def _made(backups: Backups, stages: Stages, *, prove_it: bool, reason: str) -> Run:
    manifest = create(backups, reason=reason, stages=stages)
    stages.begin("prove")
    verdict, journal_problem = _judged(backups, manifest, prove_it=prove_it)
    return Run(
        manifest=manifest,
        verdict=verdict,
        seconds=stages.total,
        stages=stages.seconds,
        journal_problem=journal_problem,
    )


def _judged(backups: Backups, manifest: Manifest, *, prove_it: bool) -> tuple[Verdict | None, str | None]:
    """The verdict, and why the journal could not be brought up to date beside that."""
    with ThreadPoolExecutor(1) as beside:
        # When the backup is made: a database that is not there is told once.
        caught_up = beside.submit(catch_up, backups)
        verdict = prove(backups, manifest) if prove_it else None
        return verdict, caught_up.result()


def failure(made: Run) -> ObmsError | None:
    """What the command ends with although the backup was made."""
    unproven = made.verdict.failure() if made.verdict else None
    return unproven or _missing_copies(made.copies) or made.rotten


def _missing_copies(copies: tuple[Copy, ...]) -> StorageFailed | None:
    try:
        require_copied(copies)
    except StorageFailed as error:
        return error
    return None


def _copied(backups: Backups, made: Run) -> Run:
    """Bring the journal to the stores, and what is proven; read an older one again."""
    # The journal first: it is small, and the images may take until the time is up.
    problem = ship_to_all(backups.later.journal, backups.stores, backups.notify)
    copies = copy_to_stores(backups) if made.proven else ()
    rotten = reread(backups, {made.manifest.file}) if made.proven else None
    problem = made.journal_problem or problem
    return replace(made, copies=copies, rotten=rotten, journal_problem=problem)


def _retained(backups: Backups, made: Run) -> Run:
    """Remove what no place keeps any more: only after a proof, and here only after all copies."""
    if not made.proven or made.rotten:
        return made
    made = replace(made, copies=forget_in_stores(backups, made.copies))
    if _missing_copies(made.copies) is not None:
        return made
    place = Place(storage=backups.storage, policy=backups.policy, trusted=backups.trusted)
    made = replace(made, retained=retain(place, backups.clock(), backups.notify))
    if not made.retained.held:
        drop_outdated(backups)
    return made


def clean_up(backups: Backups) -> None:
    """Remove what killed runs left behind; needs the lock."""
    for file in (*sweep_uncommitted(backups), *sweep_removals(backups.storage, backups.trusted)):
        backups.notify(Event(name="backup.swept", facts={"file": file}))
    sweep_superseded(backups)
    sweep_spools(backups.work)
    backups.database.sweep()


def record(
    backups: Backups,
    began_at: datetime,
    stages: Mapping[str, float],
    *,
    made: Run | None = None,
    error: ObmsError | None = None,
) -> None:
    """Leave the record of a run, and tell of it. What failed is told although it cannot be recorded."""
    before = read_record(backups.storage) if made else None
    ok = error is None and made is not None and (made.verdict is None or made.proven)
    proven = made.proven if made else False
    facts = {
        "id": made.manifest.id if made else None,
        "proven": proven,
        "removed": made.retained.removed if made else (),
        "held": made.retained.held if made else None,
        "error": f"{error}" if error else None,
        "hint": error.hint if error else None,
        "exit_code": error.exit_code if error else 0,
        "stages": dict(stages),
    }
    times = {"started_at": began_at.isoformat(), "ended_at": backups.clock().isoformat()}
    # A backup that was not to be proven is no sign that all is good again.
    failed_before = before is not None and before.failing
    failing = not ok or (failed_before and not proven)
    copies = [asdict(copy) for copy in made.copies] if made else []
    written = {**times, "ok": ok, "failing": failing, **facts, "copies": copies}
    try:
        backups.storage.put(RECORD, iter((json.dumps(written, indent=2).encode() + b"\n",)))
    except StorageFailed as failed:
        if error is None:
            raise
        backups.notify(Event(name="backup.unrecorded", ok=False, facts={"error": str(failed)}))
    backups.notify(Event(name="backup.run", ok=ok, facts=facts))
    if failed_before and not failing:
        backups.notify(Event(name="backup.recovered", facts={"id": facts["id"]}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of the last run, whether it made a backup or not.

    `failing` until one is proven again after one that failed.
    """

    started_at: datetime
    ok: bool
    failing: bool
    exit_code: int
    stages: Mapping[str, float] = field(default_factory=dict)


def read_record(storage: Storage) -> Record | None:
    """The record of the last run, None where there was none or it cannot be read."""
    if RECORD not in set(storage.names(RECORD)):
        return None
    try:
        record = json.loads(b"".join(storage.get(RECORD)))
        return Record(
            started_at=datetime.fromisoformat(record["started_at"]).astimezone(UTC),
            ok=record["ok"] is True,
            failing=record.get("failing", record["ok"] is not True) is True,
            exit_code=int(record["exit_code"]),
            stages={str(name): float(took) for name, took in record.get("stages", {}).items()},
        )
    except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError):
        return None


def verify(
    backups: Backups, name: str, *, level: Level = "proven", accepted: Accepted = NOTHING_MORE
) -> Verdict:
    """Judge one backup, and keep the verdict, where its place can be written to.

    BackupDamaged when there is no whole manifest to judge by.
    """
    with locked(backups):
        sweep_spools(backups.work)
        source = resolve(backups, name, accepted=accepted)
        if source.manifest is None:
            raise BackupDamaged(name=source.file, detail=NO_MANIFEST, hint=ORPHAN_HINT)
        there = replace(backups, storage=source.storage)
        verdict = prove(there, source.manifest, level=level, accepted=accepted, must_keep=False)
        if verdict.level is not None:
            remember_openers(backups, source.storage, source.file, source.id)
        return verdict


NO_MANIFEST = "it has no manifest, so that there is nothing to compare it with"
ORPHAN_HINT = "`obms restore PATH --dry-run` tells whether a file without manifest can be restored."


def newest_proven(storage: Storage, kind: str, trusted: str | None) -> Backup | None:
    """The newest backup of this kind of database that counts."""
    backups = (backup for backup in read_catalog(storage, trusted) if backup.database == kind)
    return next((backup for backup in backups if backup.proven), None)
