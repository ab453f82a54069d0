"""The journal in the stores: small objects that never change, each some lines of the file of a day."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event as Flag
from threading import Lock, Thread

from obms.backup.journal import END, PREFIX, Journal, Line, Tally
from obms.backup.storage import Storage
from obms.backup.stores import Store
from obms.errors import AlreadyThere, BackupNotFound, StorageFailed
from obms.observe import Event, Hook

SLICE = 1 << 20  # bytes
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0  # seconds
NAME = re.compile(rf"(?P<file>{PREFIX}[\d-]+\.[0-9a-f]{{8}})\.(?P<start>\d+)-(?P<end>\d+){re.escape(END)}")


def ship(journal: Journal, storage: Storage) -> int:
    """Bring the lines there that the store lacks; how many bytes."""
    ends: dict[str, int] = {}
    for match in filter(None, map(NAME.fullmatch, storage.names(PREFIX))):
        ends[match["file"]] = max(ends.get(match["file"], 0), int(match["end"]))
    return sum(_ship_file(storage, path, ends) for path in journal.files())


def _ship_file(storage: Storage, path: Path, ends: dict[str, int]) -> int:
    sent = 0
    with path.open("rb") as file:
        # Two files of one day, of a server that was set up anew, are told apart by their beginnings.
        name = f"{path.name.removesuffix(END)}.{hashlib.sha256(file.readline()).hexdigest()[:8]}"
        start = file.seek(ends.get(name, 0))
        while lines := _whole_lines(file.read(SLICE)):
            with suppress(AlreadyThere):  # another process has just sent the same
                storage.put(
                    f"{name}.{start:010}-{start + len(lines):010}{END}", iter((lines,)), replace=False
                )
            sent += len(lines)
            start = file.seek(start + len(lines))
    return sent


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def read_shipped(journal: Journal, storage: Storage, tally: Tally) -> Iterator[Line]:
    """The entries that a store holds, in the order of writing; some may come twice."""
    for name in list(storage.names(PREFIX)):
        if NAME.fullmatch(name):
            with suppress(BackupNotFound):
                yield from journal.read_lines(b"".join(storage.get(name)).splitlines(keepends=True), tally)


def ship_to_all(journal: Journal, stores: Iterable[Store], notify: Hook) -> str | None:
    """Serve each store; what kept the first one that failed from it. A failure is told, never raised."""
    problems = [problem for store in stores if (problem := _try_to_ship(journal, store, notify))]
    return problems[0] if problems else None


def _try_to_ship(journal: Journal, store: Store, notify: Hook) -> str | None:
    try:
        ship(journal, store.storage)
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
            failed = ship_to_all(self._journal, self._stores, self._notify) is not None
            pause = min(2 * pause if pause else FIRST_PAUSE, LONGEST_PAUSE) if failed else None
