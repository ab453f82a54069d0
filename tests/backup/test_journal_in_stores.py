"""R10: what a store alone tells of later revocations is never passed over, whatever the folder holds."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event as Flag

import pytest

from obms.backup.journal import END, PREFIX, Journal, Tally
from obms.backup.patience import patiently
from obms.backup.shipping import bytes_behind, read_shipped, ship, ship_to_all
from obms.backup.storage import Folder
from obms.backup.stores import open_stores
from obms.badges import statuses
from obms.badges.standings import LIFTED, SET, read_standing
from obms.databases import writing
from obms.domain import REVOCATION, SUSPENSION
from obms.errors import StorageFailed
from tests.backup.conftest import Backed, Noted
from tests.backup.test_journal import opened
from tests.backup.test_pruning import made
from tests.backup.test_revocations_outlive import (
    assert_revoked,
    check,
    lose_database,
    restored,
    revoke,
    valid_ids,
)
from tests.deployment import Deployment


def store_of(server: Deployment) -> Path:
    """A store that holds what the folder holds, and the journal as it is shipped."""
    store = server.folder / "store"
    server.environment["BACKUP_STORES"] = str(store)
    if not store.exists():
        shutil.copytree(server.backup_dir, store, ignore=shutil.ignore_patterns("journal", ".*"))
    assert ship_to_all(server.backups.later.journal, server.backups.stores, Noted()) is None
    return store


def journal_file(server: Deployment) -> Path:
    return max((server.backup_dir / "journal").glob(f"{PREFIX}*{END}"))


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def begun_anew(path: Path) -> None:
    """As the next backup would begin it: it holds only that it has caught up."""
    path.write_bytes(next(line for line in lines_of(path) if b"caught_up" in line))


def cut(path: Path) -> None:
    path.write_bytes(b"".join(lines_of(path)[:-2]))


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"lost", b"last"))


@pytest.mark.parametrize("spoil", [begun_anew, cut, damage])
def test_r10_what_a_store_tells_outlives_a_journal_that_lacks_it(
    backed_sqlite: Backed, spoil: Callable[[Path], None]
) -> None:
    server, _ = backed_sqlite
    ids = valid_ids(server, 3)
    revoke(server, ids)
    store_of(server)
    spoil(journal_file(server))
    lose_database(server)
    report = restored(server)
    assert report["from_journal"] == 3
    assert check(report, "journal")["ok"] == (spoil is not damage)
    assert_revoked(server, ids)


def test_r10_a_restore_from_a_store_brings_what_the_folder_lacks_of_the_same_day(backed: Backed) -> None:
    server, made = backed
    ids = valid_ids(server, 3)
    revoke(server, ids)
    store = store_of(server)
    cut(journal_file(server))
    lose_database(server)
    del server.environment["BACKUP_STORES"]
    assert restored(server, f"{store.as_uri()}/{made['id']}")["from_journal"] == 3
    assert_revoked(server, ids)


def test_r10_a_line_that_two_places_tell_counts_once(backed_sqlite: Backed) -> None:
    server, _ = backed_sqlite
    revoke(server, valid_ids(server, 3))
    alone = check(restored(server), "journal")["detail"]
    store_of(server)
    assert check(restored(server), "journal")["detail"] == alone


def test_r10_the_last_word_on_a_suspension_holds_where_the_folder_lacks_it(backed_sqlite: Backed) -> None:
    """It was lifted by a clock that was ahead, and suspended again; the folder knows only of the lifting."""
    server, _ = backed_sqlite
    (badge,) = valid_ids(server, 1)
    with server.database.engine.connect() as connection:
        now = datetime.now(UTC)
        # A year apart, as nobody can tell the order of them by their dates.
        for state, ahead in ((SET, 0), (LIFTED, 365), (SET, 1)):
            entry = read_standing(connection, badge, SUSPENSION)
            at = (now + timedelta(days=ahead)).isoformat()
            server.backups.later.journal.append([entry | {"state": state, "at": at}])
    store_of(server)
    path = journal_file(server)
    path.write_bytes(b"".join(lines_of(path)[:-1]))
    lose_database(server)
    restored(server)
    with server.database.engine.connect() as connection:
        status = statuses.read_status(connection, badge)
    assert status is not None
    assert status.suspended


def test_r10_a_store_that_cannot_be_asked_is_told_and_stops_nothing(backed_sqlite: Backed) -> None:
    server, _ = backed_sqlite
    ids = valid_ids(server, 2)
    revoke(server, ids)
    lose_database(server)
    server.environment |= {
        "AWS_ACCESS_KEY_ID": "a key",
        "AWS_SECRET_ACCESS_KEY": "its secret",
        "BACKUP_STORES": "s3://bucket/x?endpoint=http://127.0.0.1:1",
    }
    report = restored(server)
    found = check(report, "journal")
    assert (report["from_journal"], found["ok"]) == (2, False)
    assert "a store could not be asked" in found["detail"]
    assert_revoked(server, ids)


class Silent(Folder):
    """A place that takes the question, and answers nothing."""

    def __init__(self, path: Path, until: Flag) -> None:
        super().__init__(path)
        self.until = until

    def names(self, prefix: str = "") -> Iterator[str]:
        self.until.wait()
        return super().names(prefix)


def test_r10_a_store_that_never_answers_is_not_waited_for(tmp_path: Path) -> None:
    until = Flag()
    with pytest.raises(StorageFailed, match=r"nothing was heard of it for 0\.05 s"):
        list(read_shipped(opened(tmp_path), Silent(tmp_path, until), Tally(), patience=0.05))
    until.set()


def test_what_answers_in_time_is_passed_on_with_its_failure() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"one"
        raise StorageFailed(detail="it broke off")

    found = patiently(chunks(), 10)
    assert next(found) == b"one"
    with pytest.raises(StorageFailed, match="it broke off"):
        next(found)
    assert list(patiently(iter([b"one", b"two"]), 10)) == [b"one", b"two"]


def told_by(store: Path, journal: Journal) -> list[object]:
    """What it tells, each once."""
    tally = Tally()
    lines = read_shipped(journal, Folder(store), tally)
    told = list(dict.fromkeys(line.entry["id"] for line in lines))
    assert (tally.torn, tally.damaged) == (0, 0)
    return told


@pytest.mark.parametrize("length", [1, 2000], ids=["shorter", "longer"])
def test_r10_a_journal_that_was_put_back_is_sent_anew_beside_what_it_lost(
    tmp_path: Path, length: int, noted: Noted
) -> None:
    journal, store = opened(tmp_path / "journal"), tmp_path / "store"
    stores = open_stores((str(store),), {})
    journal.append([{"id": 1}])
    ship(journal, Folder(store))
    (path,) = journal.files()
    snapshot = path.read_bytes()
    journal.append([{"id": 2, "why": "x" * 1000}])
    ship(journal, Folder(store))
    path.write_bytes(snapshot)
    for number in (3, 4):
        journal.append([{"id": number, "why": "y" * length}])
        assert ship_to_all(journal, stores, noted) is None
    assert told_by(store, journal) == [1, 2, 3, 4]
    (told,) = noted.named("journal.differs")
    assert told.facts == {"store": store.as_uri(), "file": path.name}


def test_r10_of_two_journals_of_a_day_the_younger_one_is_read_last(tmp_path: Path) -> None:
    """The sums of their first lines tell nothing of the order: so three are begun."""
    journal, store = opened(tmp_path / "journal"), tmp_path / "store"
    for number in range(3):
        shutil.rmtree(journal.folder, ignore_errors=True)
        journal.append([{"id": number}])
        ship(journal, Folder(store))
    assert told_by(store, journal) == [0, 1, 2]


def test_r10_a_slice_that_was_damaged_in_the_store_is_sent_again(tmp_path: Path, noted: Noted) -> None:
    journal, store = opened(tmp_path / "journal"), tmp_path / "store"
    journal.append([{"id": 1}])
    ship(journal, Folder(store))
    (sent,) = store.iterdir()
    sent.write_bytes(sent.read_bytes().replace(b"1", b"2", 1))
    journal.append([{"id": 2}])
    ship_to_all(journal, open_stores((str(store),), {}), noted)
    told = [line.entry["id"] for line in read_shipped(journal, Folder(store), Tally())]
    assert told == [1, 2]


class Emptied(Folder):
    """A place that is emptied as soon as it has told what is in it."""

    def names(self, prefix: str = "") -> Iterator[str]:
        names = list(super().names(prefix))
        for name in names:
            self.remove(name)
        return iter(names)


def test_r10_a_day_that_is_dropped_while_it_is_counted_is_not_lacked(tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal")
    journal.append([{"id": 1}])

    class Dropped(Journal):
        def files(self) -> list[Path]:
            found = list(super().files())
            for path in found:
                path.unlink()
            return found

    assert bytes_behind(journal, {}) == sum(path.stat().st_size for path in journal.files())
    journal.__class__ = Dropped
    assert bytes_behind(journal, {}) == 0


def test_r10_what_a_store_has_lost_is_sent_again(tmp_path: Path) -> None:
    journal, store = opened(tmp_path / "journal"), tmp_path / "store"
    journal.append([{"id": 1}])
    ship(journal, Folder(store))
    journal.append([{"id": 2}])
    ship(journal, Emptied(store))
    assert told_by(store, journal) == [1, 2]


def test_r10_what_is_revoked_after_a_snapshot_came_back_reaches_the_store(backed: Backed) -> None:
    """The machine is put back by a day, goes on, and is lost: the store tells of both its pasts."""
    server, made = backed
    before, after = valid_ids(server, 2)
    store_of(server)
    snapshot = server.folder / "snapshot"
    shutil.copytree(server.backup_dir, snapshot)
    revoke(server, [before])
    store_of(server)
    shutil.rmtree(server.backup_dir)
    snapshot.rename(server.backup_dir)
    with writing(server.database.engine) as connection:
        statuses.revoke(connection, server.application.site, after, "lost")
        standing = read_standing(connection, after, REVOCATION)
    server.application.keep([standing])
    store = store_of(server)
    shutil.rmtree(server.backup_dir)
    lose_database(server)
    assert restored(server, f"{store.as_uri()}/{made['id']}")["from_journal"] == 2
    assert_revoked(server, [before, after])


def aged_journal(server: Deployment, days: int) -> Journal:
    """The journal, all of it written so many days ago."""
    path = journal_file(server)
    day = (datetime.now(UTC) - timedelta(days=days)).date()
    path.rename(path.with_name(f"{PREFIX}{day}{END}"))
    return server.backups.later.journal


def test_r10_a_backup_that_is_older_than_the_journal_is_told_of(stocked_sqlite: Deployment) -> None:
    server = stocked_sqlite
    old, young = made(server, -20, -3)
    revoke(server, valid_ids(server, 1))
    began = datetime.now(UTC) - timedelta(days=4)
    assert aged_journal(server, 15).drop_before(began)
    # As long as the live database tells, nothing is missing.
    assert check(restored(server, old), "journal")["ok"]
    lose_database(server)
    found = check(restored(server, old), "journal")
    assert (found["ok"], f"begins only at {began.date()}" in found["detail"]) == (False, True)
    lose_database(server)
    assert check(restored(server, young), "journal")["ok"]
