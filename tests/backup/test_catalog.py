"""The catalogue tells what the files are, and counts only what is proven."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from obms.backup.catalog import Backup, find, free_name, read_catalog
from obms.backup.manifest import MANIFEST_END, VERDICT_END, Manifest, Verdict
from obms.backup.storage import Folder, Storage
from obms.backup.stores import open_store
from obms.backup.trust import Accepted
from obms.errors import BackupNotFound, KeyMissing, StorageFailed
from tests.backup.conftest import Watched
from tests.backup.test_manifest import MANIFEST, OTHER, SIGNER, VERDICT
from tests.proxy import proxy_to
from tests.real_faults import bound_by_modes
from tests.s3_server import BUCKET, S3Server

START = datetime(2026, 11, 22, tzinfo=UTC)


class Shelf:
    """A folder of small backups."""

    def __init__(self, path: Path) -> None:
        self.folder = Folder(path)
        self.path = path

    def add(self, days: int, verdict: Verdict | None = VERDICT) -> str:
        """A backup of so many days after the start; its file."""
        moment = START + timedelta(days=days)
        id = f"sqlite_backup_{moment:%Y-%m-%d_%H-%M-%S}"
        manifest = replace(MANIFEST, id=id, file=f"{id}.db.gz", started_at=moment).signed(SIGNER)
        self.folder.put(manifest.file, iter((bytes(manifest.bytes),)))
        self.folder.put(manifest.file + MANIFEST_END, iter((manifest.to_bytes(),)))
        if verdict is not None:
            verdict = replace(verdict, id=id, manifest=manifest.fingerprint).signed(SIGNER)
            self.folder.put(manifest.file + VERDICT_END, iter((verdict.to_bytes(),)))
        return manifest.file

    def only(self) -> Backup:
        (backup,) = read_catalog(self.folder, SIGNER.public)
        return backup


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_it_lists_the_newest_first(shelf: Shelf) -> None:
    files = [shelf.add(days) for days in (1, 3, 2)]
    assert [backup.file for backup in read_catalog(shelf.folder, SIGNER.public)] == [
        files[1],
        files[2],
        files[0],
    ]


def test_the_newest_proven_one_is_found_without_reading_those_before_it(shelf: Shelf) -> None:
    for days in range(5):
        shelf.add(days)
    newest = shelf.add(5)
    watched = Watched(shelf.path)
    assert find(watched, "latest", SIGNER.public).file == newest
    assert watched.read == [newest + MANIFEST_END, newest + VERDICT_END]


def test_the_catalogue_of_a_store_that_is_far_away_is_asked_for_many_at_a_time(
    shelf: Shelf, s3: S3Server
) -> None:
    files = [shelf.add(days) for days in range(20)]
    damaged = files[7] + MANIFEST_END
    shelf.folder.put(damaged, iter((b"junk",)))
    place = f"{BUCKET}/{uuid4().hex}"
    near = open_store(s3.url(place), s3.credentials).storage
    for name in shelf.folder.names():
        near.put(name, shelf.folder.get(name))
    with proxy_to(s3.port) as proxy:
        proxy.delay = 0.05
        far = open_store(s3.url(place, endpoint=proxy.endpoint), s3.credentials).storage
        listed = list(read_catalog(far, SIGNER.public))
    assert listed == list(read_catalog(shelf.folder, SIGNER.public))
    assert [backup.state for backup in listed].index("damaged") == 12
    assert proxy.connections > 5


def test_a_store_that_fails_while_its_catalogue_is_read_is_told(shelf: Shelf, s3: S3Server) -> None:
    for days in range(20):
        shelf.add(days)
    with proxy_to(s3.port) as proxy:
        url = s3.url(f"{BUCKET}/{uuid4().hex}", endpoint=proxy.endpoint)
        store = open_store(url, s3.credentials).storage
        for name in shelf.folder.names():
            store.put(name, shelf.folder.get(name))
        catalog = read_catalog(store, SIGNER.public)
        next(catalog)
        proxy.cut_after = 0
        with pytest.raises(StorageFailed, match=f"s3://{BUCKET}"):
            list(catalog)


def test_a_backup_that_is_proven_says_so(shelf: Shelf) -> None:
    shelf.add(1)
    assert shelf.only().state == "proven"
    assert shelf.only().proven


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        (None, "unproven"),
        (replace(VERDICT, outcome="unknown", level="restorable"), "unproven"),
        (replace(VERDICT, level="restorable", wanted="restorable"), "unproven"),
        (replace(VERDICT, outcome="bad", level="intact"), "bad"),
    ],
)
def test_a_backup_that_is_not_proven_never_counts(shelf: Shelf, verdict: Verdict | None, state: str) -> None:
    shelf.add(1, verdict)
    assert shelf.only().state == state
    assert not shelf.only().proven


def test_an_image_without_manifest_is_an_orphan(shelf: Shelf) -> None:
    file = shelf.add(1)
    (shelf.path / (file + MANIFEST_END)).unlink()
    backup = shelf.only()
    assert (backup.state, backup.file, backup.database) == ("orphan", file, "sqlite")
    assert backup.created_at == START + timedelta(days=1)


@pytest.mark.parametrize("stamp", ["2026-99-99_00-00-00", "2026", "_-"])
def test_an_orphan_whose_name_tells_no_time_is_still_named(shelf: Shelf, stamp: str) -> None:
    shelf.folder.put(f"postgres_backup_{stamp}.sql.gz", iter((b"x",)))
    backup = shelf.only()
    assert (backup.state, backup.database, backup.created_at) == ("orphan", "postgresql", None)


def test_a_manifest_without_image_is_damaged(shelf: Shelf) -> None:
    (shelf.path / shelf.add(1)).unlink()
    assert shelf.only().state == "damaged"
    assert shelf.only().problem == "its image is missing"
    assert not shelf.only().proven


@pytest.mark.parametrize("end", [MANIFEST_END, VERDICT_END])
def test_what_may_not_be_read_is_named_and_hides_no_other(shelf: Shelf, end: str) -> None:
    whole, unreadable = shelf.add(1), shelf.add(2)
    (shelf.path / (unreadable + end)).chmod(0)
    with bound_by_modes():
        newest, oldest = read_catalog(shelf.folder, SIGNER.public)
        assert find(shelf.folder, "latest", SIGNER.public).file == whole
    assert (newest.file, newest.state, oldest.state) == (unreadable, "damaged", "proven")
    assert f"{unreadable}{end}: Permission denied" in str(newest.problem)


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "missing"])
@pytest.mark.parametrize("place", ["folder", "s3"])
def test_k5_an_image_that_is_cut_or_missing_is_named_and_never_counts(
    shelf: Shelf, place: str, cut: bool, request: pytest.FixtureRequest
) -> None:
    older, newer = shelf.add(1), shelf.add(2)
    storage: Storage = shelf.folder
    if place == "s3":
        server: S3Server = request.getfixturevalue("s3")
        storage = open_store(server.url(f"{BUCKET}/{uuid4().hex}"), server.credentials).storage
        for name in shelf.folder.names():
            storage.put(name, shelf.folder.get(name))
    if cut:
        storage.put(newer, iter((b"x",)))
    else:
        storage.remove(newer)
    states = {backup.file: (backup.state, backup.problem) for backup in read_catalog(storage, SIGNER.public)}
    problem = "its image has 1 of 100 bytes" if cut else "its image is missing"
    assert states == {older: ("proven", None), newer: ("damaged", problem)}
    assert find(storage, "latest", SIGNER.public).file == older


def test_a_damaged_manifest_makes_the_backup_damaged(shelf: Shelf) -> None:
    path = shelf.path / (shelf.add(1) + MANIFEST_END)
    path.write_bytes(path.read_bytes().replace(b"manual", b"Manual"))
    assert shelf.only().state == "damaged"
    assert "changed after it was written" in str(shelf.only().problem)


def test_k5_two_manifests_that_were_swapped_are_both_damaged(shelf: Shelf) -> None:
    one, two = (shelf.path / (shelf.add(days) + MANIFEST_END) for days in (1, 2))
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    assert [backup.state for backup in read_catalog(shelf.folder, SIGNER.public)] == ["damaged", "damaged"]


def test_k5_two_verdicts_that_were_swapped_prove_nothing(shelf: Shelf) -> None:
    one, two = (shelf.path / (shelf.add(days) + VERDICT_END) for days in (1, 2))
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    assert [backup.state for backup in read_catalog(shelf.folder, SIGNER.public)] == ["unproven", "unproven"]


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_verdict_that_was_truncated_proves_nothing(shelf: Shelf, keep: int) -> None:
    path = shelf.path / (shelf.add(1) + VERDICT_END)
    path.write_bytes(path.read_bytes()[:keep])
    assert shelf.only().state == "unproven"


def test_k2_foreign_files_are_not_listed(shelf: Shelf) -> None:
    for name in ("photos.gz", "backup.sql.gz", "sqlite_backup_.db", "my_sqlite_backup_2026.db.gz", "x.json"):
        (shelf.path / name).write_bytes(b"x")
    (shelf.path / "sqlite_backup_2026-11-22_00-00-00.db.gz.proof.json").write_bytes(b"{}")
    shutil.copytree(shelf.path, shelf.path / "sqlite_backup_2026-01-01_00-00-00.db.gz")
    assert list(read_catalog(shelf.folder, SIGNER.public)) == []


def test_a_backup_is_found_by_its_id_and_by_its_file(shelf: Shelf) -> None:
    file = shelf.add(1)
    shelf.add(2)
    assert find(shelf.folder, file, SIGNER.public).file == file
    assert find(shelf.folder, file.removesuffix(".db.gz"), SIGNER.public).file == file


def test_latest_is_the_newest_that_is_proven(shelf: Shelf) -> None:
    shelf.add(1)
    wanted = shelf.add(2)
    shelf.add(3, None)
    shelf.add(4, replace(VERDICT, outcome="bad"))
    (shelf.path / shelf.add(5)).unlink()
    assert find(shelf.folder, "latest", SIGNER.public).file == wanted


def test_without_a_proven_one_latest_names_the_way_to_prove_one(shelf: Shelf) -> None:
    file = shelf.add(1, None)
    with pytest.raises(BackupNotFound) as caught:
        find(shelf.folder, "latest", SIGNER.public)
    assert caught.value.hint.startswith("None of 1 is proven.")
    assert file.removesuffix(".db.gz") in caught.value.hint


def test_what_is_not_there_is_not_found(shelf: Shelf) -> None:
    with pytest.raises(BackupNotFound, match="'latest'"):
        find(shelf.folder, "latest", SIGNER.public)
    with pytest.raises(BackupNotFound, match="'other'"):
        find(shelf.folder, "other", SIGNER.public)


def test_b9_a_name_is_never_given_twice(shelf: Shelf) -> None:
    taken: list[str] = []
    for _ in range(3):
        id, file = free_name(shelf.folder, "sqlite", START, ".gz")
        assert file == f"{id}.db.gz"
        shelf.folder.put(file, iter(()))
        taken.append(id)
    assert taken == [f"sqlite_backup_2026-11-22_00-00-0{second}" for second in range(3)]
    id, file = free_name(shelf.folder, "postgresql", START, ".gz")
    assert (id, file) == ("postgres_backup_2026-11-22_00-00-03", "postgres_backup_2026-11-22_00-00-03.sql.gz")


def test_k4_a_file_from_the_end_of_the_calendar_stops_no_backup(shelf: Shelf) -> None:
    (shelf.path / "sqlite_backup_9999-12-31_23-59-59.db.gz").write_bytes(b"x")
    assert free_name(shelf.folder, "sqlite", START, ".gz")[0] == "sqlite_backup_2026-11-22_00-00-00"


@pytest.mark.parametrize("stamp", ["9998-12-31_23-59-58", "9998-12-31_23-59-59", "9999-01-01_00-00-00"])
def test_b9_a_name_that_leads_to_the_end_of_the_calendar_makes_none_collide(shelf: Shelf, stamp: str) -> None:
    names = [f"sqlite_backup_{stamp}.db.gz"]
    for _ in range(4):
        shelf.folder.put(names[-1], iter(()), replace=False)
        names.append(free_name(shelf.folder, "sqlite", START, ".gz")[1])
    assert names[1:] == sorted(names[1:])


def test_b9_a_name_is_taken_as_long_as_any_file_of_it_is_left(shelf: Shelf) -> None:
    id = f"sqlite_backup_{START:%Y-%m-%d_%H-%M-%S}"
    shelf.folder.put(f"{id}.db.gz{VERDICT_END}", iter(()))
    assert free_name(shelf.folder, "sqlite", START, ".gz")[0] != id


def test_a_verdict_is_about_one_manifest_only(shelf: Shelf) -> None:
    file = shelf.add(1)
    manifest = shelf.only().manifest
    assert isinstance(manifest, Manifest)
    another = replace(manifest, rows={"issuers": 2}).signed(SIGNER)
    shelf.folder.put(file + MANIFEST_END, iter((another.to_bytes(),)))
    assert shelf.only().state == "unproven"


def test_k5_a_verdict_that_another_key_signed_proves_nothing(shelf: Shelf) -> None:
    """Nor does one that nobody signed, or any at all where there is no key to believe."""
    path = shelf.path / f"{shelf.add(1)}{VERDICT_END}"
    verdict = Verdict.from_bytes("v", path.read_bytes())
    for forged in (verdict.signed(None), verdict.signed(OTHER)):
        path.write_bytes(forged.to_bytes())
        assert shelf.only().state == "unproven"
    path.write_bytes(verdict.to_bytes())
    assert shelf.only().state == "proven"
    assert [backup.state for backup in read_catalog(shelf.folder, None)] == ["unproven"]


def test_the_latest_of_another_server_is_named_and_taken_only_if_accepted(shelf: Shelf) -> None:
    file = shelf.add(1)
    with pytest.raises(KeyMissing, match=f"{file} was signed with another SECRET_KEY"):
        find(shelf.folder, "latest", OTHER.public)
    accepted = Accepted(other_key=True)
    assert find(shelf.folder, "latest", OTHER.public, accepted=accepted).file == file
    assert not find(shelf.folder, file, OTHER.public).proven
