"""The journal is kept for as long as a backup, here or in a store, may need it (R10)."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from obms.backup.by_hand import pin
from obms.backup.journal import BEGINS, END, PREFIX
from obms.backup.retain import Policy
from obms.backup.run import run
from obms.backup.shipping import ship
from obms.backup.storage import Folder
from obms.backup.stores import Store, Stores, open_stores
from obms.databases import Chunks
from obms.errors import StorageFailed
from tests.backup.conftest import execute
from tests.backup.test_journal import opened
from tests.backup.test_pruning import at, made
from tests.deployment import Deployment


def day(ago: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=ago)


def days_of(folder: Path) -> set[int]:
    """How many days ago those are of which there is something."""
    today = datetime.now(UTC).date()
    names = (path.name.removeprefix(PREFIX)[:10] for path in folder.glob(f"{PREFIX}*{END}"))
    return {(today - date.fromisoformat(name)).days for name in names}


def journal_of(server: Deployment, *ago: int) -> Path:
    """The folder of the journal, with a file of each of these days."""
    folder = server.backup_dir / "journal"
    folder.mkdir(parents=True, exist_ok=True)
    for days in ago:
        (folder / f"{PREFIX}{day(days)}{END}").write_bytes(b"{}\n")
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "copies"


def test_r10_the_days_before_the_oldest_backup_are_dropped_and_no_other(stocked_sqlite: Deployment) -> None:
    made(stocked_sqlite, -20, -3)
    folder = journal_of(stocked_sqlite, 40, 30, 5, 4, 3, 1)
    run(at(stocked_sqlite, 0))
    # A day more than the oldest of them needs: a revocation may be in the database on the next day only.
    assert days_of(folder) >= {4, 3, 1, 0}
    assert not days_of(folder) & {40, 30, 5}


def test_r10_what_a_backup_in_a_store_needs_is_kept_here_and_there(
    stocked_sqlite: Deployment, place: Path
) -> None:
    stores = open_stores((place.as_uri(),), {})
    run(at(stocked_sqlite, -20, stores=stores, policy=Policy(days=None)))
    folder = journal_of(stocked_sqlite, 40, 22, 21, 10)
    ship(stocked_sqlite.backups.later.journal, Folder(place))
    run(at(stocked_sqlite, 0, stores=stores))
    for where in (folder, place):
        assert days_of(where) >= {21, 10, 0}
        assert not days_of(where) & {40, 22}
        assert BEGINS in "".join(path.read_text("utf-8") for path in where.glob(f"*{day(0)}*{END}"))


class Full(Folder):
    """A folder that takes nothing more of the journal once it is told so."""

    full = False

    def put(self, name: str, chunks: Chunks, **asked: Any) -> None:
        if self.full and name.startswith(PREFIX):
            raise StorageFailed(detail="no space is left")
        super().put(name, chunks, **asked)


def test_r10_a_store_that_is_not_told_where_the_journal_begins_keeps_it(
    stocked_sqlite: Deployment, place: Path
) -> None:
    made(stocked_sqlite, -3)
    journal_of(stocked_sqlite, 40)
    store = Full(place)
    ship(stocked_sqlite.backups.later.journal, store)
    store.full = True
    run(at(stocked_sqlite, 0, stores=Stores(configured=(Store(name="full", storage=store),))))
    assert 40 not in days_of(stocked_sqlite.backup_dir / "journal")
    assert 40 in days_of(place)


@pytest.mark.parametrize("reason", ["pinned", "unproven run", "a date ahead"])
def test_r10_nothing_is_dropped_that_may_be_needed(stocked_sqlite: Deployment, reason: str) -> None:
    (old,) = made(stocked_sqlite, 400 if reason == "a date ahead" else -30)
    if reason == "pinned":
        pin(stocked_sqlite.backups, old)
    if reason == "unproven run":
        execute(stocked_sqlite, "UPDATE status_entries SET value = 1 - value")
    folder = journal_of(stocked_sqlite, 29, 9)
    run(at(stocked_sqlite, 0))
    assert days_of(folder) >= {29, 9}


def test_k4_days_of_the_journal_never_go_back(tmp_path: Path) -> None:
    """K4: else a clock that was behind for a while would have new entries dropped as old ones."""
    now = datetime(2026, 6, 1, tzinfo=UTC)
    opened(tmp_path, now=now).append([{"id": 1}])
    opened(tmp_path, now=now - timedelta(days=3650)).append([{"id": 2}])
    assert [path.name for path in opened(tmp_path).files()] == [f"{PREFIX}2026-06-01{END}"]


class Counted(Folder):
    """A folder that counts what is asked of it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.listed = 0

    def names(self, prefix: str = "") -> Iterator[str]:
        self.listed += 1
        return super().names(prefix)


def test_shipping_reads_only_the_days_that_grew(stocked_sqlite: Deployment, place: Path) -> None:
    journal, store = stocked_sqlite.backups.later.journal, Counted(place)
    journal_of(stocked_sqlite, 9, 8)
    known: dict[Path, int] = {}
    assert ship(journal, store, known) == 6
    assert ship(journal, store, known) == 0
    assert store.listed == 1
    # An old day is changed in its first byte: read again, it would be sent as another file.
    old = journal.folder / f"{PREFIX}{day(9)}{END}"
    old.write_bytes(b"[]\n")
    journal.append([{"id": 1}])
    assert ship(journal, store, known) == (journal.folder / f"{PREFIX}{day(0)}{END}").stat().st_size
    assert ship(journal, store, known) == 0
    assert ship(journal, store) == 3
