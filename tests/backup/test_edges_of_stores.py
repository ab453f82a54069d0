"""What a store or the journal does at its edge: it does not answer, lets nothing go, or cannot be written."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from obms.backup.copies import _sweep
from obms.backup.journal import Tally
from obms.backup.later import catch_up
from obms.backup.outdated import drop_outdated
from obms.backup.shipping import drop_shipped, read_shipped, ship
from obms.backup.storage import Folder, Ours
from obms.backup.stores import MB, Options, Store, open_store
from obms.errors import (
    ConfigurationError,
    StorageFailed,
    StoreRefused,
)
from tests.backup.conftest import Backed, Noted
from tests.backup.test_journal import NOW, opened
from tests.clouds import Cloud
from tests.deployment import Deployment
from tests.real_faults import read_only_view, unreadable
from tests.s3_server import S3Server

DAY = timedelta(days=1)


def test_nothing_to_write_makes_no_journal(tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal")
    journal.append([])
    assert not journal.folder.exists()


def test_a_journal_whose_place_cannot_be_written_says_so(tmp_path: Path) -> None:
    assert "too long" in str(opened(tmp_path / ("x" * 300)).problem())
    (tmp_path / "folder").mkdir()
    with read_only_view(tmp_path / "folder", tmp_path / "view") as view:
        assert "may not be written" in str(opened(view / "journal").problem())


def test_an_empty_line_of_the_journal_is_no_damage(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append([{"id": 1}])
    (file,) = journal.files()
    file.write_bytes(b"\n" + file.read_bytes())
    tally = Tally()
    assert [line.entry["id"] for line in journal.read(tally)] == [1]
    assert (tally.torn, tally.damaged) == (0, 0)


def test_without_a_key_no_journal_is_caught_up(sqlite: Deployment, tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal", key=None)
    backups = sqlite.backups
    assert catch_up(replace(backups, later=replace(backups.later, journal=journal))) is None
    assert not journal.exists()


def test_days_of_the_journal_are_kept_where_a_store_cannot_be_asked(
    backed_sqlite: Backed, noted: Noted
) -> None:
    server, _ = backed_sqlite
    store = server.folder / "store"
    store.mkdir()
    server.environment["BACKUP_STORES"] = str(store)
    with unreadable(store):
        drop_outdated(replace(server.backups, notify=noted))
    (told,) = noted.named("journal.not_dropped")
    assert "Permission denied" in str(told.facts["error"])


def test_a_store_that_lets_nothing_be_removed_keeps_its_old_days(tmp_path: Path) -> None:
    class Keeping(Folder):
        def remove(self, name: str) -> None:
            raise StoreRefused(store=self.path, detail="it is immutable")

    journal, store = opened(tmp_path / "journal"), Keeping(tmp_path / "store")
    journal.append([{"id": 1}])
    assert ship(journal, store) > 0
    before = list(store.names())
    assert drop_shipped(store, NOW + 9 * DAY) == []
    assert list(store.names()) == before


def test_of_a_store_only_the_days_that_are_asked_for_are_read(tmp_path: Path) -> None:
    journal, store = opened(tmp_path / "journal"), Folder(tmp_path / "store")
    journal.append([{"id": "old"}])
    later = opened(journal.folder, now=NOW + DAY)
    later.append([{"id": "new"}])
    ship(journal, store)
    lines = read_shipped(journal, store, Tally(), since=(NOW + DAY).date())
    assert [line.entry["id"] for line in lines] == ["new"]


def test_a_folder_locks_nothing(tmp_path: Path) -> None:
    store = Store(name="folder", storage=Folder(tmp_path), options=Options(lock_days=1))
    store.storage.put("x", iter([b"x"]))
    store.lock("x", NOW)
    store.storage.remove("x")
    assert list(store.storage.names()) == []


def test_r10_a_line_that_another_server_sealed_is_not_believed(backed_sqlite: Backed) -> None:
    server, made = backed_sqlite
    theirs = opened(server.backup_dir / "journal", key=b"other", name="theirs", now=datetime.now(UTC))
    theirs.append([{"credential": "x", "what": "revoked"}])
    answer = server.obms("restore", made["id"], "--yes", "--json")
    assert answer.code == 0, answer.err
    told = next(check for check in answer.json["checks"] if check["name"] == "journal")
    assert "1" in told["detail"]
    assert not told["ok"]


def test_r10_a_revocation_that_has_no_place_in_the_backup_is_told(backed_sqlite: Backed) -> None:
    server, made = backed_sqlite
    entry = {
        "at": datetime.now(UTC).isoformat(),
        "credential": "nobody's",
        "issuer": "nobody",
        "purpose": "revocation",
        "state": "set",
        "reason": None,
        "places": [["revocation", "no list", 0, 131072]],
    }
    server.backups.later.journal.append([entry])
    answer = server.obms("restore", made["id"], "--yes", "--json")
    assert answer.code == 0, answer.err
    told = next(check for check in answer.json["checks"] if check["name"] == "journal")
    assert (told["ok"], "that of nobody's" in told["detail"]) == (False, True)


def test_a_store_that_lets_nothing_be_swept_is_told_and_served(sqlite: Deployment, noted: Noted) -> None:
    class Keeping(Folder):
        def sweep(self, ours: Ours = lambda _name: True, **_: object) -> frozenset[str]:
            raise StoreRefused(store=self.path, detail="it is immutable")

    store = Store(name="keeping", storage=Keeping(sqlite.folder / "store"))
    _sweep(replace(sqlite.backups, notify=noted), store)
    assert [event.facts["store"] for event in noted.named("backup.copy_unswept")] == ["keeping"]


def test_an_upload_that_lies_deeper_is_another_server_s(s3: S3Server) -> None:
    for name in ("folder/x", "y"):
        s3.requests("deeper").begin(name)
    assert s3.uploads("deeper") == ["y"]


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_an_upload_ends_where_the_store_does_not_answer(google: Cloud, scheme: str) -> None:
    keys = {"s3": {"access_key_id": "a", "secret_access_key": "b"}, **google.credentials}
    url = f"{scheme}://bucket?endpoint=http://127.0.0.1:1&timeout=1&part_size=5242880"
    store = open_store(url, keys).storage
    with pytest.raises(StorageFailed, match=f"{scheme}://bucket"):
        store.put("large", iter([bytes(MB)] * 64))


def test_a_cloud_without_an_account_is_no_store() -> None:
    with pytest.raises(ConfigurationError, match="az://container"):
        open_store("az://container", {})


def test_what_is_gone_from_a_cloud_is_removed_already(google: Cloud) -> None:
    store = open_store(google.url("removals"), google.credentials).storage
    store.remove("x")
    assert list(store.names()) == []
