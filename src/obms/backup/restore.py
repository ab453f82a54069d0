"""Restoring: checked beside the live database, then switched in one step, with a way back."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection

from obms.backup import Backups, later
from obms.backup.across import Image, load, require_equal_rows
from obms.backup.lock import locked
from obms.backup.manifest import Check
from obms.backup.prove import (
    as_damage,
    check_integrity,
    compare,
    compare_digests,
    judge_schema,
    read_facts,
    require_space,
    room_to_load,
    spool,
    spool_folder,
    write_image,
)
from obms.backup.recipients import remember_openers
from obms.backup.run import clean_up
from obms.backup.safety import Safety, saving
from obms.backup.source import Source, resolve
from obms.backup.trust import NOTHING_MORE, OTHER_KEY, Accepted, check_signature, refusal
from obms.backup.undo import RECORD, last_safety_backup, read_record
from obms.databases import Database, Facts, postgresql_dump, sqlite
from obms.errors import (
    BackupDamaged,
    KeyMissing,
    ManifestMissing,
    NotABackup,
    Refused,
)
from obms.observe import Event

ARCHIVE = b"PGDMP"
ARCHIVE_HINT = "`pg_restore -f dump.sql FILE` makes plain SQL of it, which can be restored."
PROVEN_ALREADY = Check(
    name="content",
    ok=True,
    detail="the bytes are those that were proven; rows are counted, not compared again",
)
DATABASES = {"sqlite": sqlite.is_image, "postgresql": postgresql_dump.is_image}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a restore would do, with its figures; nothing was touched to find them.

    `later_revocations` are those that the journal tells to be younger than the backup; None where
    its moment is not known.
    """

    id: str
    file: str
    database: str
    proven: bool
    rows: Mapping[str, int]
    live_rows: Mapping[str, int] | None
    later_revocations: int | None
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore did. `set_aside` names what stood in the way and could not be read as ours.

    `from_journal` are those of `revocations_kept` that the live database did not tell.
    """

    id: str
    database: str
    rows: Mapping[str, int]
    proven: bool
    safety_backup: str | None
    revocations_kept: int
    from_journal: int
    set_aside: str | None
    checks: tuple[Check, ...]
    seconds: float


def plan(backups: Backups, name: str, *, accepted: Accepted = NOTHING_MORE, same_kind: bool = False) -> Plan:
    """Check the backup as far as that goes without a database, and tell what a restore would do."""
    source = resolve(backups, name, accepted=accepted)
    require_trust(backups, source, accepted)
    backups.database.check_rights()
    with locked(backups), spool_folder(backups.work) as folder:
        image, _ = _decode(backups, source, folder)
        kind = _kind_of(image, source.file)
        _require_fit(backups, source, image, kind, same_kind=same_kind)
    live = backups.database.facts(digests=False).rows if backups.database.exists() else None
    younger = _count_later(backups, source, accepted)
    return Plan(
        id=source.id,
        file=source.file,
        database=kind,
        proven=source.proven,
        rows=source.manifest.rows if source.manifest else {},
        live_rows=live,
        later_revocations=younger,
        steps=(
            f"load the image into a scratch {backups.database.kind} and check it there"
            + (", as equal by the digests" if kind != backups.database.kind else ""),
            "make a safety backup of the live database" if live is not None else "there is no live database",
            f"bring later revocations over ({_counted(younger)} in the journal), migrate to today's schema",
            "switch, in one step",
        ),
    )


def _counted(count: int | None) -> str:
    return "an unknown number" if count is None else str(count)


def _count_later(backups: Backups, source: Source, accepted: Accepted) -> int | None:
    if source.made_at is None:
        return None
    return later.count_later(backups, source.storage, source.made_at, believe_all=accepted.other_key)


def restore(
    backups: Backups,
    name: str,
    *,
    accepted: Accepted = NOTHING_MORE,
    same_kind: bool = False,
    compare_rows: bool = False,
) -> Restored:
    """Replace the live database by a backup, as a whole; the old content goes into a safety backup.

    Killed at any moment it leaves the old database or the new one, and a second try works.
    KeyMissing, with nothing touched, when the backup was sealed with another SECRET_KEY, unless
    that is accepted: its badges verify, and cannot be signed with until the key is set. NotSigned
    when anybody may have written its manifest. A backup of the other kind of database is restored
    across, or Refused where `same_kind` is asked for.
    """
    started = time.monotonic()
    with locked(backups):
        clean_up(backups)
        source = resolve(backups, name, accepted=accepted)
        backups.database.check_rights()
        trust = require_trust(backups, source, accepted)
        with (
            saving(backups) as safety,
            loaded(backups, source, same_kind=same_kind, compare_rows=compare_rows) as (
                scratch,
                facts,
                checks,
            ),
        ):
            fit(backups, source, scratch, accept_other_key=accepted.other_key)
            done = _switch(backups, source, scratch, safety, accept_other_key=accepted.other_key)
            done = _after(backups, facts, done, [*trust, *checks])
            remember_openers(backups, source.storage, source.file, source.id)
    done = replace(done, seconds=round(time.monotonic() - started, 3))
    told = {"id": done.id, "safety_backup": done.safety_backup, "seconds": done.seconds}
    backups.notify(Event(name="restore.done", facts=told))
    return done


def fit(backups: Backups, source: Source, scratch: Database, *, accept_other_key: bool) -> None:
    """Bring the copy to today's schema, and see that its keys open here.

    BackupDamaged for what cannot be read, and DatabaseUnreachable where the reading was ended.
    """
    version = source.manifest.app_version if source.manifest else "unknown"
    try:
        with as_damage(source.file):
            backups.migrate(scratch, source.file, version)
            if not accept_other_key:
                backups.check_keys(scratch)
    except KeyMissing as error:
        raise KeyMissing(**error.facts, hint=OTHER_KEY) from error


def undo(backups: Backups) -> Restored:
    """Bring back what the last restore replaced; revocations made since then stay."""
    last = last_safety_backup(backups)
    previous = backups.database.previous(last)
    if previous is None:
        accepted = Accepted(other_key=True, not_signed=backups.signer is None)
        return restore(backups, last, accepted=accepted, same_kind=True)
    started = time.monotonic()
    with locked(backups), saving(backups) as safety:
        facts = previous.facts(digests=False)
        backups.migrate(previous, last, backups.version)
        source = Source(file=last, storage=backups.storage, manifest=None)
        done = _after(backups, facts, _switch(backups, source, previous, safety), [])
    return replace(done, seconds=round(time.monotonic() - started, 3))


@contextmanager
def loaded(
    backups: Backups, source: Source, *, same_kind: bool, compare_rows: bool = False
) -> Iterator[tuple[Database, Facts, list[Check]]]:
    """The backup in a scratch database, checked; BackupDamaged at the first check that says no.

    Rows that a proof saw these bytes make are counted and not compared again, unless `compare_rows`.
    """
    if source.manifest:  # before the work
        _require_space_to_load(backups, source.manifest.raw_bytes)
    with spool_folder(backups.work) as folder:
        image, checks = _decode(backups, source, folder)
        kind = _kind_of(image, source.file)
        _require_fit(backups, source, image, kind, same_kind=same_kind)
        with backups.database.scratch() as scratch:
            loaded = load(backups, scratch, _image(source, image, kind))
            known = not compare_rows and _is_known(source, scratch, kind)
            with ThreadPoolExecutor(1) as beside:
                integrity = None if known else beside.submit(check_integrity, scratch, source.file)
                facts = read_facts(scratch, source.file, digests=not known)
                checks.append(integrity.result() if integrity else PROVEN_ALREADY)
            wanted = {} if known else loaded.digests
            if kind == "sqlite" and scratch.kind == "postgresql":
                require_equal_rows(folder, scratch, facts, wanted)
            if source.manifest:
                checks += compare(source.manifest, facts, wanted)
            else:
                checks += [judge_schema(facts), *compare_digests(facts, wanted)]
            require_checks(checks, source.file)
            yield scratch, facts, checks


def _is_known(source: Source, scratch: Database, kind: str) -> bool:
    """Whether a proof has seen what this image makes here: it has the hash of the proven one."""
    manifest = source.manifest
    if manifest is None or not source.proven or kind != scratch.kind:
        return False
    return scratch.loads_alike(manifest.server_version)


def _decode(backups: Backups, source: Source, folder: Path) -> tuple[Path, list[Check]]:
    image = folder / "image"
    if source.manifest is not None:
        checks = spool(replace(backups, storage=source.storage), source.manifest, image)
        require_checks(checks, source.file)
        return image, checks
    require_space(backups.work, source.storage.size(source.file))
    chunks = source.storage.get(source.file)
    try:
        write_image(backups.chain.decode_by_content(chunks), image)
    except BackupDamaged as error:
        raise BackupDamaged(name=source.file, detail=str(error.facts["detail"])) from error
    detail = "it has no manifest: its own checksum is all that could be compared"
    return image, [Check(name="made by hand", ok=True, detail=detail)]


def require_checks(checks: list[Check], name: str) -> None:
    failed = next((check for check in checks if not check.ok), None)
    if failed is not None:
        raise BackupDamaged(name=name, detail=f"{failed.name}: {failed.detail}")


def _kind_of(image: Path, name: str) -> str:
    """Content decides the kind, never the name."""
    with image.open("rb") as file:
        head = file.read(4096)
    for kind, matches in DATABASES.items():
        if matches(head):
            return kind
    if head.startswith(ARCHIVE):
        raise NotABackup(name=name, detail="it is an archive of pg_dump, not plain SQL", hint=ARCHIVE_HINT)
    raise NotABackup(name=name, detail="it is neither a SQLite database nor a PostgreSQL dump")


def _image(source: Source, path: Path, kind: str) -> Image:
    """The decoded image with what is known of it: a proof has taken the digests of a SQLite one."""
    if source.manifest is None:
        return Image(path=path, kind=kind, name=source.file)
    image = replace(Image.of(source.manifest, path), kind=kind)
    proven = source.verdict.digests if source.verdict and source.proven else {}
    return replace(image, digests=image.digests or proven)


def _require_fit(backups: Backups, source: Source, image: Path, kind: str, *, same_kind: bool) -> None:
    """Refused for a backup of the other kind, where that is not wanted; StorageFailed for want of space."""
    ours = backups.database.kind
    if same_kind and kind != ours:
        raise Refused(
            detail=f"{source.file} is a backup of {kind}, and this server runs on {ours}",
            hint=f"Leave out --same-kind to restore it across, or set DB_TYPE={kind}.",
        )
    _require_space_to_load(backups, image.stat().st_size)


def _require_space_to_load(backups: Backups, needed: int) -> None:
    folder = backups.database.folder
    if folder is not None:
        require_space(folder, room_to_load(needed, backups.database.size()))


def _require_same_key(backups: Backups, source: Source) -> None:
    theirs = source.manifest.sealing_key if source.manifest else None
    if theirs is not None and backups.sealing_key is not None and theirs != backups.sealing_key:
        raise KeyMissing(
            detail=f"{source.file} was sealed with another SECRET_KEY (fingerprint {theirs}, "
            f"here {backups.sealing_key}): its badges would verify, and none could be signed",
            hint=OTHER_KEY,
        )


def require_trust(backups: Backups, source: Source, accepted: Accepted) -> list[Check]:
    """What the signature of the manifest tells; KeyMissing or NotSigned when that is not accepted.

    A backup of ours whose manifest is gone is not signed either: else whoever can write where it lies
    would have any image restored in its place. But a new machine may have got the image alone.
    """
    if not accepted.other_key:
        _require_same_key(backups, source)
    if source.manifest is None:
        needed = source.storage is not backups.storage or backups.database.exists()
        if source.named_by_us and needed and not accepted.not_signed:
            raise ManifestMissing(name=source.file)
        return []
    check = check_signature(source.manifest, backups.trusted, vouched=source.proven, accepted=accepted)
    if not check.ok:
        raise refusal(source.file, source.manifest.signature_seen_by(backups.trusted))
    return [check]


def _switch(
    backups: Backups, source: Source, scratch: Database, safety: Safety, *, accept_other_key: bool = False
) -> Restored:
    safety.wait()
    exists = backups.database.exists()
    whole = exists and safety.id is None
    if whole:
        facts = {"error": safety.problem, "next": "the live database is set aside, whole"}
        backups.notify(Event(name="restore.unreadable", ok=False, facts=facts))
    former = read_record(backups.storage)

    def carry(old: Connection, new: Connection) -> int:
        # Within the switch: a restore that is killed right after it can be undone, one before it need not.
        safety.settle(source.id)
        return keeping.carry(old, new)

    with later.keeping(
        backups, scratch, source.storage, source.made_at, believe_all=accept_other_key
    ) as keeping:
        try:
            if safety.id is None:
                safety.record(source.id)
            aside = backups.database.replace(scratch, carry, label=lambda: safety.id, whole=whole)
            if not safety.recorded:  # what is damaged may be replaced without being read
                safety.record(source.id)
        except BaseException:
            backups.storage.put(RECORD, iter((former,)))
            raise
    return Restored(
        id=source.id,
        database=backups.database.kind,
        rows={},
        proven=source.proven,
        safety_backup=safety.id,
        revocations_kept=keeping.kept,
        from_journal=keeping.from_journal,
        set_aside=aside,
        checks=keeping.checks(live=exists),
        seconds=0.0,
    )


def _after(backups: Backups, facts: Facts, done: Restored, checks: list[Check]) -> Restored:
    """The report, with what the live database holds now: the restored rows, and what came after them."""
    live = backups.database.facts(digests=False).rows
    missing = {name: rows for name, rows in facts.rows.items() if live.get(name, 0) < rows}
    detail = f"missing: {missing}" if missing else f"{sum(live.values())} rows in {len(live)} tables"
    return replace(
        done, rows=live, checks=(*checks, *done.checks, Check(name="live", ok=not missing, detail=detail))
    )
