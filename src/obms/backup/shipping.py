"""The journal in the stores: small objects that never change, each some lines of the file of a day."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from os import SEEK_END
from pathlib import Path
from threading import Event as Flag
from threading import Lock, Thread

from obms.backup.journal import END, PREFIX, Journal, Line, Tally, day_of
from obms.backup.patience import patiently
from obms.backup.storage import Storage
from obms.backup.stores import Store
from obms.databases import Chunks
from obms.errors import AlreadyThere, BackupNotFound, StorageFailed, StoreRefused
from obms.observe import Event, Hook, utc_now

SLICE = 1 << 20  # bytes
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0  # seconds
NAME = re.compile(
    rf"{PREFIX}(?P<day>\d{{4}}-\d\d-\d\d)\.(?P<first>[0-9a-f]{{8}})(_(?P<turn>\d{{3,}}))?"
    rf"\.(?P<start>\d{{10,}})-(?P<end>\d{{10,}}){re.escape(END)}"
)

Sizes = dict[Path, int]  # of the files, as far as a store is known to hold them
Tell = Callable[[Path], object]
LockOne = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Slice:
    """What an object holds: these bytes of the file of a day. They sort in the order of writing.

    Two files of one day, of a server that was set up anew, are told apart by `first`, the sum of their
    first lines; `turn` counts them, and those that begin alike and went on differently.
    """

    day: str
    turn: int
    first: str
    start: int
    end: int

    @property
    def name(self) -> str:
        turn = f"_{self.turn:03}" if self.turn else ""
        return f"{PREFIX}{self.day}.{self.first}{turn}.{self.start:010}-{self.end:010}{END}"


def slices_of(storage: Storage) -> list[Slice]:
    """What a store holds of the journal, in the order of writing."""
    return sorted(_slice(match) for match in map(NAME.fullmatch, storage.names(PREFIX)) if match)


def _slice(match: re.Match[str]) -> Slice:
    return Slice(
        day=match["day"],
        turn=int(match["turn"] or 0),
        first=match["first"],
        start=int(match["start"]),
        end=int(match["end"]),
    )


def _ignore(_path: Path) -> None: ...


def _lock_nothing(_name: str) -> None: ...


def ship(
    journal: Journal,
    storage: Storage,
    known: Sizes | None = None,
    *,
    differs: Tell = _ignore,
    lock: LockOne = _lock_nothing,
) -> int:
    """Bring the lines there that the store lacks; how many bytes. Files of a `known` size are not read.

    `differs` is told of a file that no longer holds what the store has of it: it is sent as a new one.
    `lock` is what lets nobody remove an object that was put there.
    """
    known = {} if known is None else known
    grown = [path for path in journal.files() if path.stat().st_size != known.get(path)]
    if not grown:
        return 0
    held = slices_of(storage)
    sent = 0
    for path in grown:
        last = _last_slice(storage, path, held, differs)
        known[path] = _ship_after(storage, path, last, lock)
        sent += known[path] - last.end
    return sent


def _last_slice(storage: Storage, path: Path, held: Iterable[Slice], differs: Tell) -> Slice:
    """What a store has of the file, where the file still holds it; else nothing yet, of a file of its own."""
    day, first = day_of(path).isoformat(), _sum_of_first_line(path)
    of_day = [one for one in held if one.day == day]
    mine = [one for one in of_day if one.first == first]
    if mine:
        last = max(mine, key=lambda one: (one.turn, one.end))
        if _holds(path, storage, last):
            return last
        differs(path)
    turn = max((one.turn + 1 for one in of_day), default=0)
    return Slice(day=day, turn=turn, first=first, start=0, end=0)


def _holds(path: Path, storage: Storage, there: Slice) -> bool:
    """Whether the file still has these bytes; it only ever grows, unless it was put back or cut."""
    with path.open("rb") as file:
        file.seek(there.start)
        here = file.read(there.end - there.start)
    with suppress(BackupNotFound):
        return here == b"".join(storage.get(there.name))
    return False


def drop_shipped(storage: Storage, moment: datetime) -> list[str]:
    """Remove what a store holds of the days before that of `moment`, and tell the names."""
    day = moment.astimezone(UTC).date().isoformat()
    dropped = [one.name for one in slices_of(storage) if one.day < day]
    with suppress(StoreRefused):  # a store that lets nothing be removed keeps them, which does no harm
        for name in dropped:
            storage.remove(name)
        return dropped
    return []


def _ship_after(storage: Storage, path: Path, last: Slice, lock: LockOne) -> int:
    """Send what the store lacks of one file after the last slice; up to where."""
    with path.open("rb") as file:
        start = file.seek(last.end)
        while lines := _whole_lines(file.read(SLICE)):
            end = start + len(lines)
            with suppress(AlreadyThere):  # another process has just sent the same
                _put(storage, replace(last, start=start, end=end).name, lines, lock)
            start = file.seek(end)
    return start


def _put(storage: Storage, name: str, lines: bytes, lock: LockOne) -> None:
    """One that cannot be locked is taken back: the next time it is lacking, and is put and locked."""
    storage.put(name, iter((lines,)), replace=False)
    try:
        lock(name)
    except StorageFailed:
        storage.remove(name)
        raise


def _sum_of_first_line(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.readline()).hexdigest()[:8]


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def read_shipped(
    journal: Journal,
    storage: Storage,
    tally: Tally,
    *,
    since: date | None = None,
    patience: float | None = None,
) -> Iterator[Line]:
    """The entries that a store holds of the days from `since` on, in the order of writing.

    Some come twice. StorageFailed where nothing is heard of the store for `patience` seconds.
    """
    contents = _contents(storage, since)
    for data in contents if patience is None else patiently(contents, patience):
        yield from journal.read_lines(data.splitlines(keepends=True), tally)


def _contents(storage: Storage, since: date | None) -> Chunks:
    for one in slices_of(storage):
        if since is None or one.day >= since.isoformat():
            with suppress(BackupNotFound):
                yield b"".join(storage.get(one.name))


def ship_to_all(
    journal: Journal, stores: Iterable[Store], notify: Hook, known: dict[str, Sizes] | None = None
) -> str | None:
    """Serve each store; what kept the first one that failed from it. A failure is told, never raised.

    `known` is what the stores are known to hold, by their names, and is brought up to date.
    """
    known = {} if known is None else known
    tried = (_try_to_ship(journal, store, notify, known.setdefault(store.name, {})) for store in stores)
    problems = [problem for problem in tried if problem]
    return problems[0] if problems else None


def _try_to_ship(journal: Journal, store: Store, notify: Hook, known: Sizes) -> str | None:
    try:
        differs = partial(_tell_of_difference, notify, store.name)
        ship(journal, store.storage, known, differs=differs, lock=lambda name: store.lock(name, utc_now()))
    except (StorageFailed, OSError) as error:
        notify(Event(name="journal.unshipped", ok=False, facts={"store": store.name, "error": str(error)}))
        return f"{store.name}: {error}"
    held = {path.name: size for path, size in known.items()}
    notify(Event(name="journal.shipped", facts={"store": store.name, "held": held}))
    return None


def bytes_behind(journal: Journal, held: Mapping[str, int]) -> int:
    """How much of the journal is not known to be in a store; `held` is what is, by the name of the file."""
    return sum(_lacking(path, held.get(path.name, 0)) for path in journal.files())


def _lacking(path: Path, held: int) -> int:
    """A line that a dying process left torn is never sent, and not lacked; a shorter file is another one."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, SEEK_END)
            begin = held if held <= size else 0
            file.seek(begin)
            return size - begin if _whole_lines(file.read(SLICE)) else 0
    except FileNotFoundError:  # dropped since the names were read
        return 0


def _tell_of_difference(notify: Hook, store: str, path: Path) -> None:
    notify(Event(name="journal.differs", ok=False, facts={"store": store, "file": path.name}))


class Shipping:
    """Brings what is new to the stores in a thread of its own, and tries again after pauses that grow."""

    def __init__(self, journal: Journal, stores: Iterable[Store], notify: Hook) -> None:
        self._journal = journal
        self._stores = tuple(stores)
        self._notify = notify
        self._wanted = Flag()
        self._starting = Lock()
        self._thread: Thread | None = None
        self._known: dict[str, Sizes] = {}

    def wake(self) -> None:
        """There is something new; does not wait for it to arrive."""
        if not self._stores:
            return
        self._wanted.set()
        with self._starting:
            if self._thread is None:
                self._thread = Thread(target=self._work, daemon=True)
                self._thread.start()

    def _work(self) -> None:
        pause: float | None = None
        while True:
            self._wanted.wait(pause)
            self._wanted.clear()
            failed = ship_to_all(self._journal, self._stores, self._notify, self._known) is not None
            pause = min(2 * pause if pause else FIRST_PAUSE, LONGEST_PAUSE) if failed else None
