"""What came after a backup: kept in the journal as it happens, brought into what is restored."""

import hashlib
import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from obms.backup import Backups
from obms.backup.journal import BEGINS, Entry, Journal, Line, Tally
from obms.backup.manifest import Check
from obms.backup.prove import spool_folder
from obms.backup.shipping import read_shipped
from obms.backup.storage import Storage
from obms.databases import Database, writing
from obms.errors import ObmsError, StorageFailed
from obms.observe import Event

BATCH = 1000
# A mark in the journal: all that the database told at that moment is in it.
MARK = "caught_up"
# What was begun before a mark may have been committed after it, and clocks are put right.
MARGIN = timedelta(hours=1)
# A revocation may be written on one day and be in the database only on the next.
DAY = timedelta(days=1)
# Seconds for a store to say something, where the folder has a journal too.
PATIENCE = 15.0


def catch_up(backups: Backups) -> str | None:
    """Bring into the journal what the database tells and it lacks; why not, where that fails.

    A failure is told and stops no backup: that makes up for it, as it holds all of them.
    """
    journal = backups.later.journal
    if not journal.can_write:
        return None
    try:
        _append_missing(backups, journal)
    except (ObmsError, SQLAlchemyError) as error:
        problem = str(error).splitlines()[0]
        backups.notify(Event(name="journal.behind", ok=False, facts={"error": problem}))
        return problem
    return None


def _append_missing(backups: Backups, journal: Journal) -> None:
    began = backups.clock()
    mark = _last_mark(journal, began)
    since = None if mark is None else mark - MARGIN
    with backups.database.engine.connect() as connection:
        missing = _unknown(journal, backups.later.entries_since(connection, since), since)
        while batch := list(islice(missing, BATCH)):
            journal.append(batch)
    journal.append([{MARK: began.isoformat()}])


def _unknown(journal: Journal, entries: Iterator[Entry], since: datetime | None) -> Iterator[Entry]:
    """Those that the journal lacks; it is read only where there are any."""
    known: set[int] | None = None
    for entry in entries:
        if known is None:
            lines = journal.read(since=since.date() if since else None)
            known = {_digest(line.entry) for line in lines if line.own}
        if _digest(entry) not in known:
            yield entry


def _last_mark(journal: Journal, now: datetime) -> datetime | None:
    """Of those that do not lie ahead of the clock: one that was ahead would hide what came later."""
    for path in reversed(journal.files()):
        lines = journal.read_file(path, Tally(), containing=MARK.encode())
        marks = (
            datetime.fromisoformat(line.entry[MARK]) for line in lines if line.own and MARK in line.entry
        )
        if mark := max((mark for mark in marks if mark <= now), default=None):
            return mark
    return None


def _digest(entry: Entry) -> int:
    """Eight bytes for an entry, so that a day of many stays small in memory."""
    spelled = json.dumps(entry, sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(spelled).digest()[:8])


@dataclass(slots=True, kw_only=True)
class Keeping:
    """What a restore keeps of what came later: `told` by the journal, and by the live database.

    `made_at` is the moment of the backup, None where that is not known; the journal `begins` on a day
    where older ones were dropped.
    """

    backups: Backups
    made_at: datetime | None
    told: Path
    tally: Tally
    disbelieved: int = 0
    unread: str = ""
    begins: date | None = None
    found: bool = False
    unplaced: int = 0
    example: str = ""
    replayed: int = 0
    carried: int = 0
    known: int = 0
    live_was_read: bool = False

    def carry(self, old: Connection, new: Connection) -> int:
        """From the live database, when no writer can add to it any more."""
        carried = self.backups.carry(old, new)
        self.known = self.backups.later.count_known(old, _read_entries(self.told))
        self.carried, self.live_was_read = carried, True
        return carried

    @property
    def kept(self) -> int:
        return self.carried + self.replayed

    @property
    def from_journal(self) -> int:
        return self.replayed - self.known

    @property
    def since(self) -> date | None:
        """Lines of older days are in the backup; None where its moment cannot be believed."""
        if self.made_at is None or self.made_at > self.backups.clock():
            return None
        return (self.made_at - DAY).astimezone(UTC).date()

    def checks(self, *, live: bool) -> tuple[Check, ...]:
        """What the operator must be told: where revocations may be missing, the check says no."""
        checks = [self._journal_check()] if self.found or self.unread else []
        if live and not self.live_was_read:
            detail = "the live database could not tell them"
            checks.append(self._loud(f"{detail}; {self.kept} came from the journal"))
        elif not live and not checks:
            detail = "there was neither a live database nor a journal to tell them"
            checks.append(self._loud(detail))
        return tuple(checks)

    def _loud(self, detail: str) -> Check:
        self.backups.notify(Event(name="restore.revocations_unknown", ok=False, facts={"detail": detail}))
        return Check(name="later revocations", ok=False, detail=detail)

    def _journal_check(self) -> Check:
        tally = self.tally
        found = {
            "damaged": tally.damaged,
            "not sealed by this server and not believed": self.disbelieved,
            f"without a place in the backup, such as that of {self.example}": self.unplaced,
        }
        said = [problem for problem in (self.unread, self._late_beginning()) if problem]
        ok = not any(found.values()) and not said
        said += [f"{count} {what}" for what, count in found.items() if count]
        # What broke off was never answered for, so that it is nothing that was lost.
        said += [f"{tally.torn} torn"] if tally.torn else []
        detail = "; ".join([f"{tally.lines} entries", *said])
        if not ok:
            self.backups.notify(Event(name="restore.journal_doubtful", ok=False, facts={"detail": detail}))
        return Check(name="journal", ok=ok, detail=detail)

    def _late_beginning(self) -> str:
        """A live database that was read has told what the journal lacks."""
        if self.begins is None or self.live_was_read:
            return ""
        if self.made_at is not None and self.made_at.astimezone(UTC).date() >= self.begins:
            return ""
        return f"the journal begins only at {self.begins}, and the backup is older"


def count_later(backups: Backups, origin: Storage, since: datetime, *, believe_all: bool) -> int:
    """How many revocations and suspensions the journal tells that are younger than `since`."""
    keeping = Keeping(backups=backups, made_at=since, told=Path(os.devnull), tally=Tally())
    believe_all = believe_all or not backups.later.journal.can_write
    entries = _believed(keeping, _lines(keeping, origin), believe_all=believe_all)
    return backups.later.count_since(entries, since)


@contextmanager
def keeping(
    backups: Backups, scratch: Database, origin: Storage, made_at: datetime | None, *, believe_all: bool
) -> Generator[Keeping]:
    """Bring the journal into `scratch`, and give what brings the live database's own over it.

    `origin` of the backup and the stores are asked too: the folder of the journal may lack lines, or
    days, and nothing in it would tell. `made_at` is the moment of the backup.
    What another server sealed is believed where `believe_all` says so, and where no SECRET_KEY
    is there to tell it by.
    """
    with spool_folder(backups.work) as folder:
        keeping = Keeping(backups=backups, made_at=made_at, told=folder / "told", tally=Tally())
        believe_all = believe_all or not backups.later.journal.can_write
        _replay(keeping, scratch, origin, believe_all=believe_all)
        yield keeping


def _replay(keeping: Keeping, scratch: Database, origin: Storage, *, believe_all: bool) -> None:
    entries = _believed(keeping, _lines(keeping, origin), believe_all=believe_all)
    with (
        keeping.told.open("w", encoding="utf-8") as told,
        writing(scratch.engine) as new,
    ):
        for entry, weight in keeping.backups.later.replay(new, entries):
            keeping.replayed += weight
            if weight > 0:
                told.write(json.dumps(dict(entry)) + "\n")
            elif weight == 0:
                keeping.unplaced += 1
                keeping.example = str(entry["credential"])


def _lines(keeping: Keeping, origin: Storage) -> Iterator[Line]:
    """First what the stores tell, then the folder: one that was lost or put back goes on after them.

    What was told once is not told again: coming after what stands between the two, it would undo that.
    """
    journal = keeping.backups.later.journal
    keeping.found = journal.exists()
    told: set[int] = set()
    for line in _stored(keeping, origin):
        if (digest := _digest_of(line)) in told:
            keeping.tally.lines -= 1
        else:
            told.add(digest)
            yield line
    for line in journal.read(keeping.tally):
        if told and _digest_of(line) in told:
            keeping.tally.lines -= 1
        else:
            yield line


def _stored(keeping: Keeping, origin: Storage) -> Iterator[Line]:
    """What the stores tell; one that says nothing is not waited for long where there is a journal here."""
    journal = keeping.backups.later.journal
    patience = PATIENCE if journal.exists() else None
    for storage in dict.fromkeys((origin, *(store.storage for store in keeping.backups.stores))):
        try:
            for line in read_shipped(journal, storage, keeping.tally, since=keeping.since, patience=patience):
                keeping.found = True
                yield line
        except StorageFailed as error:
            keeping.unread = f"a store could not be asked: {error}"


def _digest_of(line: Line) -> int:
    return _digest({**line.entry, "own": line.own})


def _believed(keeping: Keeping, lines: Iterator[Line], *, believe_all: bool) -> Iterator[Entry]:
    for line in lines:
        if MARK in line.entry:
            keeping.tally.lines -= 1
        elif not line.own and not believe_all:
            keeping.disbelieved += 1
        elif BEGINS in line.entry:
            keeping.tally.lines -= 1
            keeping.begins = max(keeping.begins or date.min, date.fromisoformat(line.entry[BEGINS]))
        else:
            yield {**line.entry, "own": line.own}


def _read_entries(path: Path) -> Iterator[Entry]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
