"""Bringing single rows of a backup back into the live database, in one transaction, over nothing newer."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from sqlalchemy import Connection

from obms.backup import Backups
from obms.backup.create import create
from obms.backup.later import keeping
from obms.backup.lock import locked
from obms.backup.manifest import Check
from obms.backup.recipients import remember_openers
from obms.backup.restore import fit, loaded, require_trust
from obms.backup.run import clean_up
from obms.backup.source import Source, resolve
from obms.backup.trust import NOTHING_MORE, Accepted
from obms.backup.undo import SAFETY
from obms.databases import Database, digests
from obms.databases.retiring import fenced
from obms.errors import DatabaseMissing, DatabaseNotMigrated, Refused
from obms.observe import Event

EXAMPLES = 10

_Rows = Callable[[Connection, Connection], Iterator[tuple[str, str, str, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """What was brought back, or with `dry_run` would be: rows per table, by what became of them.

    `notes` name some rows that were there and newer, and are kept as they are.
    """

    id: str
    proven: bool
    wanted: tuple[str, ...]
    inserted: Mapping[str, int]
    overwritten: Mapping[str, int]
    equal: Mapping[str, int]
    kept: Mapping[str, int]
    notes: tuple[str, ...]
    safety_backup: str | None
    checks: tuple[Check, ...]
    dry_run: bool
    seconds: float


@dataclass(slots=True, kw_only=True)
class _Tally:
    """Rows per table by what became of them, with some of those there is something to say about."""

    rows: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    said: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, table: str, what: str, id: str, detail: str) -> None:
        self.rows[what][table] += 1
        if detail and len(self.said[what]) < EXAMPLES:
            self.said[what].append(f"{table} {id}: {detail}")


def pick(
    backups: Backups,
    name: str,
    wanted: Sequence[str],
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    accepted: Accepted = NOTHING_MORE,
) -> Picked:
    """Bring what is wanted, with all it needs, from a backup into the live database.

    It is tried first in a transaction that is taken back, so that what cannot be done is told with
    nothing touched. Then comes a safety backup, then the same again for good. Writers wait while it
    lasts. Refused for rows that differ, unless they are to be overwritten.
    """
    started = time.monotonic()
    with locked(backups):
        clean_up(backups)
        source = resolve(backups, name, accepted=accepted)
        trust = require_trust(backups, source, accepted)
        if not backups.database.exists():
            raise DatabaseMissing(
                name="to bring rows into", hint=f"`obms restore {name} --yes` restores it whole."
            )
        with loaded(backups, source, same_kind=False) as (scratch, _, checks):
            fit(backups, source, scratch, accept_other_key=False)
            _require_same_schema(backups.database, scratch)
            with keeping(
                backups, scratch, source.storage, source.made_at, believe_all=accepted.other_key
            ) as kept:
                # Each bit is compared with the live one as it is brought; the journal is in the copy now.
                kept.live_was_read = True
                rows = partial(backups.bring, wanted=wanted, origin=source.id, overwrite=overwrite)
                tally = _bring(backups.database, scratch, rows, commit=False)
                safety = None if dry_run else create(backups, reason=SAFETY).id
                if not dry_run:
                    tally = _bring(backups.database, scratch, rows, commit=True)
            remember_openers(backups, source.storage, source.file, source.id)
        done = _report(source, wanted, tally, [*trust, *checks, *kept.checks(live=True)])
    done = replace(done, safety_backup=safety, dry_run=dry_run, seconds=round(time.monotonic() - started, 3))
    told = {"id": done.id, "wanted": list(wanted), "inserted": dict(done.inserted), "safety_backup": safety}
    if not dry_run:
        backups.notify(Event(name="restore.rows_brought", facts=told))
    return done


def _require_same_schema(live: Database, scratch: Database) -> None:
    with live.engine.connect() as here, scratch.engine.connect() as there:
        found, needed = digests.revision(here), digests.revision(there)
    if found != needed:
        raise DatabaseNotMigrated(found=found, needed=needed)


def _bring(database: Database, scratch: Database, rows: _Rows, *, commit: bool) -> _Tally:
    """Behind a fence: no revocation is made between the reading of them and the bringing."""
    tally = _Tally()
    with fenced(database) as live, scratch.engine.connect() as old:
        for outcome in rows(old, live):
            tally.add(*outcome)
        _require_none_refused(tally)
        _end(live, commit=commit)
    return tally


def _end(live: Connection, *, commit: bool) -> None:
    if commit:
        live.commit()
    else:
        live.rollback()


def _require_none_refused(tally: _Tally) -> None:
    refused = tally.rows["refused"].total()
    if refused:
        raise Refused(
            detail=f"{refused} rows are in the database and differ: {'; '.join(tally.said['refused'])}",
            hint="Nothing was changed. `--overwrite --yes` puts the older rows in their place; "
            "a badge whose place in a status list is taken cannot come back.",
        )


def _report(source: Source, wanted: Sequence[str], tally: _Tally, checks: Sequence[Check]) -> Picked:
    return Picked(
        id=source.id,
        proven=source.proven,
        wanted=tuple(wanted),
        inserted=dict(tally.rows["inserted"]),
        overwritten=dict(tally.rows["overwritten"]),
        equal=dict(tally.rows["equal"]),
        kept=dict(tally.rows["kept"]),
        notes=tuple(tally.said["kept"]),
        safety_backup=None,
        checks=tuple(checks),
        dry_run=False,
        seconds=0.0,
    )
