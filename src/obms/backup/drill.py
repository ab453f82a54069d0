"""A drill: the loss of the machine is played through, with the newest proven backup of the farthest store."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from obms.backup import Backups, later
from obms.backup.catalog import Backup, find
from obms.backup.drill_report import Drill, write_report
from obms.backup.lock import locked
from obms.backup.manifest import MANIFEST_END, VERDICT_END, Check
from obms.backup.prove import (
    ask_application,
    failure_of_copy,
    require_space,
    spool_folder,
    sweep_spools,
)
from obms.backup.recipients import remember_openers
from obms.backup.restore import fit, loaded
from obms.backup.source import Source
from obms.backup.stages import Stages
from obms.backup.storage import Folder, Storage
from obms.backup.stores import Store, Stores
from obms.backup.time_limit import time_limit
from obms.databases import Database
from obms.errors import (
    BackupDamaged,
    BackupNotFound,
    LockHeld,
    NothingProven,
    NotProven,
    ObmsError,
    StorageFailed,
)
from obms.observe import Event, no_event

Newest = Callable[[Connection], datetime | None]
# What a recovery consists of; the rest of a drill would not be done on the day.
RECOVERY = ("find", "fetch", "restore", "verify")
JOURNAL = "journal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """What a drill came to. `error` is what it failed by; `page` is the report that a person reads."""

    report: Drill
    error: ObmsError | None
    page: str | None


@dataclass(slots=True, kw_only=True)
class _Play:
    """What is known of a drill while it goes on."""

    place: Store
    began_at: datetime
    stages: Stages = field(default_factory=Stages)
    backup: Backup | None = None
    checks: list[Check] = field(default_factory=list)
    rows: Mapping[str, int] = field(default_factory=dict)
    newest: datetime | None = None
    newest_live: datetime | None = None
    verified: bool = False


def drill(backups: Backups, newest: Newest, *, store: str | None = None) -> Drilled:
    """Restore the newest proven backup of a store beside the live database, and start the application on it.

    Every failure is in the report, and is told. `newest` gives the time of the newest write in a
    database. The store is the last of BACKUP_STORES, or the backup folder where there is none.
    """
    play = _Play(place=farthest(backups, store), began_at=backups.clock())

    def conclude(error: ObmsError | None) -> Drilled:
        return _conclude(backups, play, error)

    with ExitStack() as held:
        try:
            held.enter_context(locked(backups))
            with time_limit(backups.timeout, lambda: play.stages.current, conclude):
                sweep_spools(backups.work)
                _recover(backups, play, newest)
        except LockHeld:
            raise
        except ObmsError as error:
            return conclude(error)
        except SQLAlchemyError as error:
            name = play.backup.file if play.backup else "latest"
            return conclude(failure_of_copy(name, error))
        return conclude(_failed(play))


def _newest_live(database: Database, newest: Newest) -> datetime | None:
    """None where there is no live database to tell it: a drill is held all the same."""
    try:
        if not database.exists():
            return None
        with database.engine.connect() as connection:
            return newest(connection)
    except (ObmsError, SQLAlchemyError, ValueError):  # a time in it may be junk
        return None


def farthest(backups: Backups, url: str | None = None) -> Store:
    """The store that is likeliest to outlive this machine."""
    if url is not None:
        return backups.stores.at(url)
    here = Store(name=backups.folder.absolute().as_uri(), storage=backups.storage)
    *_, last = (here, *backups.stores)
    return last


def _recover(backups: Backups, play: _Play, newest: Newest) -> None:
    play.stages.begin("live")
    play.newest_live = _newest_live(backups.database, newest)
    play.stages.begin("find")
    play.backup = _newest_proven(play.place, backups.trusted)
    with spool_folder(backups.work) as folder:
        play.stages.begin("fetch")
        fetched = _fetch(play, backups.work, folder / "fetched")
        there = _new_machine(backups, fetched, folder, local=play.place.storage is backups.storage)
        source = _source(fetched, play.backup.file, backups.trusted)
        play.stages.begin("damage")
        play.checks.append(refuses_damage(there, source, fetched.path / source.file))
        play.stages.begin("restore")
        # Evidence of its own is what a drill is for; of SQLite the image that was hashed is the database.
        compare_rows = there.database.kind != "sqlite"
        with loaded(there, source, same_kind=False, compare_rows=compare_rows) as (scratch, facts, checks):
            play.rows = facts.rows
            play.checks += checks
            fit(there, source, scratch, accept_other_key=False)
            with scratch.engine.connect() as connection:
                play.newest = newest(connection)  # of the backup: what the journal tells comes after it
            with later.keeping(
                there, scratch, play.place.storage, source.made_at, believe_all=False
            ) as keeping:
                play.checks += (check for check in keeping.checks(live=False) if check.name == JOURNAL)
            play.stages.begin("verify")
            play.checks += ask_application(backups, scratch)
            play.verified = all(check.ok for check in play.checks)
            play.stages.begin("report")
        remember_openers(backups, fetched, source.file, source.id)


def _newest_proven(place: Store, trusted: str | None) -> Backup:
    try:
        return find(place.storage, "latest", trusted)
    except BackupNotFound as error:
        raise NothingProven(store=place.name) from error


def _fetch(play: _Play, work: Path, folder: Path) -> Folder:
    """All that a new machine needs of the store, in a folder of its own."""
    backup, storage = play.backup, play.place.storage
    assert backup is not None
    assert backup.manifest is not None
    require_space(work, backup.manifest.bytes + backup.manifest.raw_bytes)
    fetched = Folder(folder)
    for name in (backup.file, backup.file + MANIFEST_END, backup.file + VERDICT_END):
        fetched.put(name, storage.get(name))
    return fetched


def _new_machine(backups: Backups, fetched: Storage, folder: Path, *, local: bool) -> Backups:
    """As a machine that has nothing but the store and the keys; nobody is told of what happens there."""
    journal = backups.later.journal if local else backups.later.journal.at(folder / JOURNAL)
    return replace(
        backups,
        storage=fetched,
        stores=Stores(),
        later=replace(backups.later, journal=journal),
        notify=no_event,
    )


def _source(fetched: Storage, file: str, trusted: str | None) -> Source:
    backup = find(fetched, file, trusted)
    if backup.problem:
        raise BackupDamaged(name=file, detail=backup.problem)
    return Source(
        file=file, storage=fetched, manifest=backup.manifest, verdict=backup.verdict, trusted=trusted
    )


def refuses_damage(there: Backups, source: Source, image: Path) -> Check:
    """Whether a restore turns the image down while a byte of it is flipped; afterwards it is whole again."""
    with _flipped(image) as position:
        said = ""
        try:
            with loaded(there, source, same_kind=False):
                detail = f"it was restored, although byte {position} was flipped"
        except BackupDamaged as error:
            said = str(error)
            detail = f"byte {position} was flipped: {said}"
    return Check(name="refuses a damaged copy", ok=bool(said), detail=detail)


@contextmanager
def _flipped(image: Path) -> Iterator[int]:
    """A byte in the middle of the file, inverted for as long as this lasts."""
    position = image.stat().st_size // 2
    _invert(image, position)
    try:
        yield position
    finally:
        _invert(image, position)


def _invert(image: Path, position: int) -> None:
    with image.open("r+b", buffering=0) as file:
        file.seek(position)
        byte = file.read(1)
        file.seek(position)
        file.write(bytes((byte[0] ^ 0xFF,)))


def _failed(play: _Play) -> NotProven | None:
    bad = next((check for check in play.checks if not check.ok), None)
    if bad is None:
        return None
    assert play.backup is not None
    return NotProven(name=play.backup.id, detail=f"a drill failed at {bad.name}: {bad.detail}")


def _conclude(backups: Backups, play: _Play, error: ObmsError | None) -> Drilled:
    """Write the report and tell of the drill. What failed is told although it cannot be written."""
    page, report = None, _report(backups, play, error).signed(backups.signer)
    try:
        page = write_report(backups, report)
    except StorageFailed as failed:
        error = error or failed
        report = _report(backups, play, error).signed(backups.signer)
    facts = {
        "id": report.id,
        "store": report.store,
        "rto_seconds": report.rto_seconds,
        "rpo_seconds": report.rpo_seconds,
        "error": report.error or None,
        "hint": report.hint or None,
        "exit_code": report.exit_code,
    }
    backups.notify(Event(name="drill.done", ok=report.ok, facts=facts))
    return Drilled(report=report, error=error, page=page)


def _lost_seconds(play: _Play, moment: datetime | None) -> float | None:
    """From the moment of the backup to the newest write after it; to the start where nobody can tell that.

    None where no image was read: nobody knows what would have been left.
    """
    if moment is None or (play.newest is None and not play.verified):
        return None
    until = play.newest_live or play.began_at
    since = moment if until > moment else play.newest or moment
    return round(max(0.0, (until - since).total_seconds()), 3)


def _report(backups: Backups, play: _Play, error: ObmsError | None) -> Drill:
    backup, seconds = play.backup, play.stages.seconds
    moment = backup.created_at if backup else None
    took = sum(seconds.get(stage, 0.0) for stage in RECOVERY)
    return Drill(
        id=backup.id if backup else "",
        file=backup.file if backup else "",
        store=play.place.name,
        ok=error is None,
        exit_code=error.exit_code if error else 0,
        error=str(error) if error else "",
        hint=error.hint if error else "",
        rpo_seconds=_lost_seconds(play, moment),
        rto_seconds=round(took, 3) if play.verified else None,
        backup_of=moment.isoformat() if moment else "",
        newest_data=play.newest.isoformat() if play.newest else "",
        newest_live=play.newest_live.isoformat() if play.newest_live else "",
        checks=tuple(play.checks),
        stages=seconds,
        rows=play.rows,
        bytes=backup.manifest.bytes if backup and backup.manifest else 0,
        database=backups.database.kind,
        app_version=backups.version,
        started_at=play.began_at,
        ended_at=backups.clock(),
    )
