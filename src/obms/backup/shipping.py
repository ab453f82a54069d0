"""The journal in the stores: small objects that never change, each some lines of the file of a day."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event as Flag
from threading import Lock, Thread

from obms.backup.journal import END, PREFIX, Journal, Line, Tally
from obms.backup.storage import Storage
from obms.backup.stores import Store
from obms.errors import AlreadyThere, BackupNotFound, StorageFailed, StoreRefused
from obms.observe import Event, Hook, utc_now

SLICE = 1 << 20  # bytes
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0  # seconds
NAME = re.compile(rf"(?P<file>{PREFIX}[\d-]+\.[0-9a-f]{{8}})\.(?P<start>\d+)-(?P<end>\d+){re.escape(END)}")


Sizes = dict[Path, int]  # of the files, as far as a store is known to hold them
LockOne = Callable[[str], None]


def ship(
    journal: Journal, storage: Storage, known: Sizes | None = None, lock: LockOne = lambda _name: None
) -> int:
    """Bring the lines there that the store lacks; how many bytes. Files of a `known` size are not read.

    `lock` is what lets nobody remove an object that was put there.
    """
    known = {} if known is None else known
    grown = [path for path in journal.files() if path.stat().st_size != known.get(path)]
    if not grown:
        return 0
    ends: dict[str, int] = {}
    for match in filter(None, map(NAME.fullmatch, storage.names(PREFIX))):
        ends[match["file"]] = max(ends.get(match["file"], 0), int(match["end"]))
    sent = 0
    for path in grown:
        start, known[path] = _ship_file(storage, path, ends, lock)
        sent += known[path] - start
    return sent


def drop_shipped(storage: Storage, moment: datetime) -> list[str]:
    """Remove what a store holds of the days before that of `moment`, and tell the names."""
    day = f"{moment.astimezone(UTC):%Y-%m-%d}"
    dropped = [name for name in storage.names(PREFIX) if NAME.fullmatch(name) and name < f"{PREFIX}{day}"]
    with suppress(StoreRefused):  # a store that lets nothing be removed keeps them, which does no harm
        for name in dropped:
            storage.remove(name)
        return dropped
    return []


def _ship_file(storage: Storage, path: Path, ends: dict[str, int], lock: LockOne) -> tuple[int, int]:
    """Send what the store lacks of one file; from where to where."""
    with path.open("rb") as file:
        name = _name_of(path)
        first = start = file.seek(ends.get(name, 0))
        while lines := _whole_lines(file.read(SLICE)):
            end = start + len(lines)
            with suppress(AlreadyThere):  # another process has just sent the same
                _put(storage, f"{name}.{start:010}-{end:010}{END}", lines, lock)
            start = file.seek(end)
    return first, start


def _put(storage: Storage, name: str, lines: bytes, lock: LockOne) -> None:
    """One that cannot be locked is taken back: the next time it is lacking, and is put and locked."""
    storage.put(name, iter((lines,)), replace=False)
    try:
        lock(name)
    except StorageFailed:
        storage.remove(name)
        raise


def _name_of(path: Path) -> str:
    """Two files of one day, of a server that was set up anew, are told apart by their beginnings."""
    with path.open("rb") as file:
        return f"{path.name.removesuffix(END)}.{hashlib.sha256(file.readline()).hexdigest()[:8]}"


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def read_shipped(journal: Journal, storage: Storage, tally: Tally) -> Iterator[Line]:
    """The entries of the files that a store holds and the folder does not, as they were written.

    Some may come twice.
    """
    here = {_name_of(path) for path in journal.files()}
    for name in list(storage.names(PREFIX)):
        match = NAME.fullmatch(name)
        if match and match["file"] not in here:
            with suppress(BackupNotFound):
                yield from journal.read_lines(b"".join(storage.get(name)).splitlines(keepends=True), tally)


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
        ship(journal, store.storage, known, lambda name: store.lock(name, utc_now()))
    except (StorageFailed, OSError) as error:
        notify(Event(name="journal.unshipped", ok=False, facts={"store": store.name, "error": str(error)}))
        return f"{store.name}: {error}"
    return None


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
