"""The journal: what must outlive the database, kept beside the backups at the moment it happens.

One file per day, one line of JSON per entry. A line carries a sum of its content, by which a torn or
changed one is known, and a code that only the holder of the server's key can make.
"""

import fcntl
import hashlib
import hmac
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import Connection

from obms import private
from obms.backup.storage import sync_folder, write_all
from obms.errors import KeyMissing, StorageFailed
from obms.observe import Clock, Event, Hook

FOLDER = "journal"
PREFIX, END = "revocations_", ".jsonl"
LONGEST_LINE = 1 << 20  # bytes
LEAST_ROOM = 1 << 16  # bytes; with less the disk is as good as full
MOST_WAITING = 10_000
# An entry about the journal itself: the files of the days before that one were dropped.
BEGINS = "begins"

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One entry as it was read; `own` tells whether it was sealed with the key of this server."""

    entry: Entry
    own: bool


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a reading met: `torn` lines have no end, as a process that died leaves them."""

    lines: int = 0
    torn: int = 0
    damaged: int = 0
    of_others: int = 0


class Journal:
    """The files of one folder; many processes may append at once.

    `key` seals the lines and `key_name` names it. Without them it can be read, and not written.
    """

    def __init__(
        self, folder: Path, *, key: bytes | None, key_name: str | None, clock: Clock, notify: Hook
    ) -> None:
        self.folder = folder
        self.can_write = key is not None
        self._key = key
        self._key_name = key_name
        self._clock = clock
        self._notify = notify
        self._turn = Lock()
        self._waiting: deque[Entry] = deque(maxlen=MOST_WAITING)

    def at(self, folder: Path) -> "Journal":
        """The journal of the same server in another folder."""
        return Journal(folder, key=self._key, key_name=self._key_name, clock=self._clock, notify=self._notify)

    def append(self, entries: Iterable[Entry]) -> None:
        """Write them durably before it returns; StorageFailed, with nothing written, where it cannot."""
        lines = b"".join(self._spell(entry) for entry in entries)
        if not lines:
            return
        path = self.folder / f"{PREFIX}{self._today()}{END}"
        with _storage_errors(self.folder):
            private.make_folder(self.folder)
            if _append(path, lines):
                sync_folder(self.folder)

    def _today(self) -> date:
        """Days never go back, whatever the clock does: what is dropped by its day is older than the rest."""
        return max([self._clock().astimezone(UTC).date(), *map(day_of, self._files(None))])

    def keep(self, entries: Sequence[Entry]) -> None:
        """Write them now; what cannot be written is told, and waits for the next time. Never raises.

        What still waits when the process ends is found in the database by the next backup.
        """
        with self._turn:
            self._waiting.extend(entries)
            self._write_waiting()

    def problem(self) -> str | None:
        """Why it cannot be written; what waits is tried again."""
        with self._turn:
            return self._write_waiting() or self._lack_of_room()

    def _write_waiting(self) -> str | None:
        if not self._waiting:
            return None
        try:
            self.append(self._waiting)
        except (StorageFailed, KeyMissing) as error:
            facts = {"error": str(error), "waiting": len(self._waiting)}
            self._notify(Event(name="journal.failed", ok=False, facts=facts))
            return str(error)
        self._waiting.clear()
        return None

    def _lack_of_room(self) -> str | None:
        try:
            there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        except OSError as error:
            return f"{self.folder}: {error.strerror}"
        if not os.access(there, os.W_OK):
            return f"{there} may not be written"
        return None if shutil.disk_usage(there).free >= LEAST_ROOM else f"the disk of {there} is full"

    def read(self, tally: Tally | None = None, *, since: date | None = None) -> Iterator[Line]:
        """Every entry that is whole, in the order of writing; what is not is counted."""
        tally = tally or Tally()
        with _storage_errors(self.folder):
            for path in self._files(since):
                yield from self.read_file(path, tally)

    def exists(self) -> bool:
        """Whether anything was ever written."""
        return bool(self._files(None))

    def drop_before(self, moment: datetime) -> list[str]:
        """Remove the files of the days before that of `moment`, and tell their names.

        For what no backup needs that is still kept: those made after `moment` hold it themselves.
        An entry says so first, for the day when an older one turns up.
        """
        day = moment.astimezone(UTC).date()
        dropped = [path for path in self._files(None) if day_of(path) < day]
        if dropped:
            self.append([{BEGINS: day.isoformat()}])
        with _storage_errors(self.folder):
            for path in dropped:
                path.unlink(missing_ok=True)
        return [path.name for path in dropped]

    def files(self) -> list[Path]:
        """The files, oldest first."""
        return self._files(None)

    def _files(self, since: date | None) -> list[Path]:
        found = (path for path in self.folder.glob(f"{PREFIX}*{END}") if _is_dated(path))
        return sorted(path for path in found if since is None or day_of(path) >= since)

    def read_file(self, path: Path, tally: Tally, *, containing: bytes = b"") -> Iterator[Line]:
        """The entries of a file; with `containing` only those whose line has these bytes in it."""
        with path.open("rb") as file:
            lines = iter(lambda: file.readline(LONGEST_LINE), b"")
            yield from self.read_lines((raw for raw in lines if containing in raw), tally)

    def read_lines(self, lines: Iterable[bytes], tally: Tally) -> Iterator[Line]:
        """The entries of these lines; what is none is counted."""
        for raw in lines:
            if not raw.strip():
                continue
            line = self.parse(raw)
            if line is not None:
                tally.lines += 1
                tally.of_others += not line.own
                yield line
            elif raw.rstrip().endswith(b"}"):
                tally.damaged += 1
            else:
                tally.torn += 1

    def parse(self, raw: bytes) -> Line | None:
        """The line, None where it is not what was written; one with a false seal is not either."""
        try:
            content = json.loads(raw)
            found, seal = content.pop("sum"), content.pop("seal")
            entry, name = content["entry"], content["key"]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
        spelled = _spell(content)
        if found != _sum(spelled) or not isinstance(entry, dict):
            return None
        own = self._key is not None and name == self._key_name
        if own and not hmac.compare_digest(str(seal).encode(), self._seal(spelled).encode()):
            return None
        return Line(entry=entry, own=own)

    def _spell(self, entry: Entry) -> bytes:
        content: dict[str, Any] = {"entry": entry, "key": self._key_name}
        spelled = _spell(content)
        return _spell(content | {"sum": _sum(spelled), "seal": self._seal(spelled)}) + b"\n"

    def _seal(self, spelled: bytes) -> str:
        if self._key is None:
            raise KeyMissing(detail="SECRET_KEY is not set, so that the journal cannot be written")
        return hmac.new(self._key, spelled, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """The journal, and how the application reads its entries from a database and does them to another.

    `entries_since` gives those that a database tells, from a moment on or all. `replay` does them to
    a restored database and gives those that changed something, each with its weight: 1 for one that
    was not known, 0 for one that has no place there, -1 for one that takes an earlier one back.
    `count_known` tells how many of some a database tells too, `count_since` how many are younger.
    """

    journal: Journal
    entries_since: Callable[[Connection, datetime | None], Iterator[Entry]]
    replay: Callable[[Connection, Iterable[Entry]], Iterator[tuple[Entry, int]]]
    count_known: Callable[[Connection, Iterable[Entry]], int]
    count_since: Callable[[Iterable[Entry], datetime], int]


def _spell(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def _sum(spelled: bytes) -> str:
    return hashlib.sha256(spelled).hexdigest()[:16]


def _append(path: Path, lines: bytes) -> bool:
    """Add whole lines to the file, or nothing; whether the file is new."""
    descriptor = private.open_file(path, os.O_RDWR | os.O_APPEND)
    with os.fdopen(descriptor, "a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        torn = size > 0 and _last_byte(file, size) != b"\n"
        try:
            # After a line that a dying process left torn, a new one is begun.
            write_all(file, iter((b"\n" + lines if torn else lines,)))
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise
        return size == 0


def _last_byte(file: FileIO, size: int) -> bytes:
    file.seek(size - 1)
    return file.read(1)


def day_of(path: Path) -> date:
    return date.fromisoformat(path.name.removeprefix(PREFIX).removesuffix(END))


def _is_dated(path: Path) -> bool:
    try:
        day_of(path)
    except ValueError:
        return False
    return True


@contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            detail=f"{error.filename or folder}: {error.strerror or error}",
            hint="Revocations are in the database alone until the journal can be written again.",
        ) from error
