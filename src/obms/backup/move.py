"""Moving to the other kind of database: copied and compared while the API runs, switched behind a fence."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from obms.backup import Backups
from obms.backup.across import Image, load
from obms.backup.encryption import with_own_key
from obms.backup.lock import locked
from obms.backup.manifest import Check, Manifest
from obms.backup.prove import compare_digests, read_facts, spool_folder, write_image
from obms.backup.restore import fit, loaded, require_checks
from obms.backup.run import clean_up, newest_proven, run
from obms.backup.source import resolve
from obms.databases import Database, Facts, digests
from obms.databases.contents import things_of_others
from obms.databases.postgresql import Postgresql
from obms.databases.postgresql_filling import fill_postgresql
from obms.databases.retiring import fenced, retire
from obms.databases.sqlite import Sqlite
from obms.errors import DatabaseUnreachable, KeyMissing, NotProven, Refused
from obms.observe import Event

REASON = "move"
NOT_EMPTY = (
    "Name an empty or a new database. If a move that was broken off has left it, and the API never ran "
    "on it: drop it, and move again."
)
STEPS = (
    "make a backup of the database, and prove it",
    "copy its rows into a scratch database beside the target, and compare the digests",
    "fence writers out (they get 503 with Retry-After), and copy again if something was written meanwhile",
    "put the copy in the place of the target, and have the old database refuse writers",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a move did; `fence_seconds` is how long writers waited.

    `second_copy` tells that something was written while it was copied, so that it was copied again
    behind the fence.
    """

    id: str
    source: str
    database: str
    rows: Mapping[str, int]
    second_copy: bool
    set_aside: str | None
    checks: tuple[Check, ...]
    fence_seconds: float
    seconds: float


def check_target(backups: Backups, target: Database) -> bool:
    """Refused unless the target is of the other kind, absent or empty, and may be made and used.

    KeyMissing without SECRET_KEY: the move goes by a proven backup, and that is signed.
    True where it holds all of the database already, as a move leaves it that was killed at its end.
    """
    if target.kind == backups.database.kind:
        raise Refused(
            detail=f"this server runs on {target.kind} already",
            hint="`obms restore latest` with the settings of the other place brings it there.",
        )
    if backups.signer is None:
        raise KeyMissing(
            detail="SECRET_KEY is not set, so that the backup a move begins with cannot be proven"
        )
    target.check_rights()
    target.check_tools()
    held = _held_by(target, backups.database.facts(digests=False).revision)
    if held and not _is_equal(backups.database, target):
        raise _not_empty(held)
    return bool(held)


def _not_empty(held: str) -> Refused:
    return Refused(detail=f"the target is not empty: {held}", hint=NOT_EMPTY)


def _held_by(target: Database, revision: str | None) -> str:
    """What stands in the target, in words; nothing if it is absent or empty.

    Tables without rows are nothing if they are those of this `revision` of ours.
    """
    try:
        with target.engine.connect() as connection:
            ours = digests.revision(connection) == revision
            rows = digests.count(connection, digests.tables(connection)) if ours else {}
            others = things_of_others(connection, ours=ours)
    except DBAPIError as error:
        if target.exists():
            raise DatabaseUnreachable(detail=f"the target: {error.orig}") from error
        return ""
    return ", ".join([*(f"{count} {name}" for name, count in rows.items() if count), *others])


def _is_equal(source: Database, target: Database) -> bool:
    """Of a target that has not the same tables no digest is taken: it may hold what has none."""
    with source.engine.connect() as old, target.engine.connect() as new:
        counted = digests.read_facts(old, deep=False) == digests.read_facts(new, deep=False)
        return counted and digests.read_facts(old, deep=True) == digests.read_facts(new, deep=True)


def move(backups: Backups, target: Database) -> Moved:
    """Make `target` hold what the database of `backups` holds, and let nobody write to that any more.

    A proven backup is the safety net and the first copy, made while the API runs. Then writers are
    fenced out; what was written meanwhile is found by the digests, and all is copied again.
    Nothing but the last step touches the old database, and that only refuses writers. A move that
    was killed before that step is finished by a second one, if nothing was written meanwhile.
    """
    started = time.monotonic()
    if check_target(backups, target):
        return _finish(backups, target, started)
    backups = replace(backups, chain=with_own_key(backups.chain))
    made = run(backups, reason=REASON)
    if made.verdict is None or not made.proven:
        raise NotProven(name=made.manifest.id, detail=made.verdict.reason if made.verdict else "not judged")
    with locked(backups):
        target.sweep()
        done = _move_backup(backups, replace(backups, database=target), made.manifest)
    backups.notify(Event(name="move.done", facts={"id": done.id, "database": done.database}))
    return replace(done, seconds=round(time.monotonic() - started, 3))


def _finish(backups: Backups, target: Database, started: float) -> Moved:
    """Do what a killed move had left to do: have writers refused, if all they wrote is in the target."""
    with locked(backups):
        clean_up(backups)
        target.sweep()
        began = time.monotonic()
        with fenced(backups.database) as fence:
            now = digests.read_facts(fence, deep=True)
            with target.engine.connect() as connection:
                equal = now == digests.read_facts(connection, deep=True)
            if not equal:
                raise _not_empty(_held_by(target, now.revision))
            retire(backups.database, fence)
        fence_seconds = round(time.monotonic() - began, 3)
    before = newest_proven(backups.storage, backups.database.kind, backups.trusted)
    detail = "a move that was broken off had copied everything"
    backups.notify(Event(name="move.done", facts={"database": target.kind, "finished": True}))
    return Moved(
        id=before.id if before else "",
        source=backups.database.kind,
        database=target.kind,
        rows=now.rows,
        second_copy=False,
        set_aside=None,
        checks=(Check(name="digests behind the fence", ok=True, detail=detail),),
        fence_seconds=fence_seconds,
        seconds=round(time.monotonic() - started, 3),
    )


def _move_backup(backups: Backups, there: Backups, manifest: Manifest) -> Moved:
    source = resolve(backups, manifest.id)
    with loaded(there, source, same_kind=False) as (scratch, facts, checks):
        fit(there, source, scratch, accept_other_key=False)
        began = time.monotonic()
        with fenced(backups.database) as fence:
            now = digests.read_facts(fence, deep=True)
            changed = now != facts
            with _final(backups, there, scratch, now, changed=changed) as (final, compared):
                aside = there.database.replace(final, _nothing_to_carry)
            retire(backups.database, fence)
        fence_seconds = time.monotonic() - began
    return Moved(
        id=manifest.id,
        source=backups.database.kind,
        database=there.database.kind,
        rows=now.rows,
        second_copy=changed,
        set_aside=aside,
        checks=(*checks, *compared),
        fence_seconds=round(fence_seconds, 3),
        seconds=0.0,
    )


@contextmanager
def _final(
    backups: Backups, there: Backups, first: Database, now: Facts, *, changed: bool
) -> Iterator[tuple[Database, list[Check]]]:
    """The scratch that equals the source behind the fence: the first one, or a new one."""
    if not changed:
        yield first, [Check(name="digests behind the fence", ok=True, detail="nothing was written meanwhile")]
        return
    with spool_folder(backups.work) as folder, there.database.scratch() as scratch:
        _copy_live(there, scratch, backups.database, now, folder)
        facts = read_facts(scratch, "the live database")
        checks = [
            replace(check, name="digests behind the fence") for check in compare_digests(facts, now.digests)
        ]
        require_checks(checks, "the live database")
        yield scratch, checks


def _copy_live(backups: Backups, scratch: Database, source: Database, facts: Facts, folder: Path) -> None:
    """Copy the rows of a database of the other kind that no writer changes meanwhile into `scratch`."""
    name = f"the live {source.kind} database"
    if isinstance(source, Sqlite):
        assert isinstance(scratch, Postgresql)
        backups.make_tables(scratch, str(facts.revision), name, backups.version)
        fill_postgresql(scratch, source, name=name)
        return
    path = folder / "image"
    with source.snapshot() as snapshot, closing(snapshot.chunks()) as chunks:
        write_image(chunks, path)
        snapshot.facts()
    load(backups, scratch, Image(path=path, kind=source.kind, name=name))


def _nothing_to_carry(_old: Connection, _new: Connection) -> int:
    """The target was empty: there is nothing in it that must not be lost."""
    return 0
