"""What the stores forget: by a policy of their own, after a proven run whose copy arrived."""

import json
import re
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from obms.backup.by_hand import foresee, pin, prune, unpin
from obms.backup.catalog import read_catalog
from obms.backup.forget import policy_of
from obms.backup.retain import FOREVER, Policy
from obms.backup.run import Run, run
from obms.backup.stores import Stores, open_store, open_stores
from obms.errors import BackupDamaged, NeedsConfirmation, StorageFailed, StoreRefused
from tests.backup.conftest import Noted, execute
from tests.backup.test_pruning import at, listed, made, shrunk
from tests.deployment import Deployment
from tests.s3_server import BUCKET, S3Server

LOCAL = Policy(days=7, daily=2)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of a store."""
    return tmp_path / "copies"


def store_at(place: Path, options: str = "") -> Stores:
    return open_stores((f"{place.as_uri()}?{options}",), {})


def held_in(server: Deployment, place: Path) -> set[str]:
    storage = open_store(str(place), {}).storage
    return {backup.id for backup in read_catalog(storage, server.backups.trusted)}


def run_at(server: Deployment, day: float, stores: Stores, **changes: object) -> Run:
    """A run of that day that removes nothing in the backup folder."""
    return run(at(server, day, policy=Policy(days=None), stores=stores, **changes))


def filled(server: Deployment, place: Path, *days: float) -> list[str]:
    """A proven backup of each of these days, here and in the store."""
    return [run_at(server, day, store_at(place)).manifest.id for day in days]


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ("", FOREVER),
        ("rate_limit=10M", FOREVER),
        ("retention_days=30", Policy(days=30, daily=2)),
        ("retention_days=0&keep_daily=0", Policy(days=0)),
        (
            "keep_weekly=4&keep_monthly=12&keep_yearly=3",
            Policy(days=7, daily=2, weekly=4, monthly=12, yearly=3),
        ),
    ],
)
def test_a_store_keeps_forever_or_as_its_url_and_then_the_folder_say(
    place: Path, options: str, policy: Policy
) -> None:
    assert policy_of(next(iter(store_at(place, options))), LOCAL) == policy


def test_a_store_without_a_policy_forgets_nothing(stocked_sqlite: Deployment, place: Path) -> None:
    old = filled(stocked_sqlite, place, -400, -399)
    stocked_sqlite.environment["BACKUP_STORES"] = str(place)
    assert stocked_sqlite.made_backup()["held"] is not None
    assert stocked_sqlite.obms("backup", "prune", "--yes").code == 0
    assert stocked_sqlite.made_backup()["copies"][0]["removed"] == []
    assert set(old) < held_in(stocked_sqlite, place)
    assert not set(old) & set(listed(stocked_sqlite))


def test_a_store_forgets_by_its_own_policy_and_says_so(
    stocked_sqlite: Deployment, place: Path, noted: Noted
) -> None:
    old, middle, young = filled(stocked_sqlite, place, -20, -8, -3)
    done = run(
        at(
            stocked_sqlite,
            0,
            policy=Policy(days=5),
            stores=store_at(place, "retention_days=10"),
            notify=noted,
        )
    )
    assert done.copies[0].removed == (old,)
    assert held_in(stocked_sqlite, place) == {middle, young, done.manifest.id}
    assert set(listed(stocked_sqlite)) == {young, done.manifest.id}
    told = [event.facts for event in noted.named("backup.removed")]
    assert told[0] == {"id": old, "reason": "removed: older than 10 days", "store": place.as_uri()}
    assert {path.name for path in place.iterdir() if old in path.name} == set()


def test_the_json_and_the_text_of_a_run_hold_what_a_store_forgot(
    stocked_sqlite: Deployment, place: Path
) -> None:
    old, young = filled(stocked_sqlite, place, -20, -3)
    answer = stocked_sqlite.obms(
        "backup",
        "run",
        "--json",
        BACKUP_STORES=f"{place.as_uri()}?retention_days=10",
        BACKUP_RETENTION_DAYS="off",
    ).json
    assert (answer["copies"][0]["removed"], answer["removed"]) == ([old], [])
    record = json.loads((stocked_sqlite.backup_dir / "last_run.json").read_text())
    assert record["copies"][0]["removed"] == [old]
    said = stocked_sqlite.obms(
        "backup", "run", BACKUP_STORES=f"{place.as_uri()}?retention_days=2", BACKUP_RETENTION_DAYS="off"
    )
    assert f"\n       removed {young}\n" in said.out


def test_what_a_store_would_forget_again_is_not_sent(stocked_sqlite: Deployment, place: Path) -> None:
    """The folder keeps it for longer than the store does."""
    stores = store_at(place, "retention_days=5")
    filled(stocked_sqlite, place, -20)
    assert run_at(stocked_sqlite, -1, stores).copies[0].removed != ()
    again = run_at(stocked_sqlite, 0, stores)
    assert again.copies[0].copied == (again.manifest.id,)
    assert again.copies[0].removed == ()


def test_what_was_never_sent_and_is_wanted_is_sent_whatever_its_age(
    stocked_sqlite: Deployment, place: Path
) -> None:
    old, young = made(stocked_sqlite, -20, -3)
    done = run_at(stocked_sqlite, 0, store_at(place, "retention_days=5&keep_monthly=2"))
    # In a month of its own, or in the month of the others: then the newest stands for it.
    assert set(done.copies[0].copied) >= {young, done.manifest.id}
    everything = run_at(stocked_sqlite, 0, store_at(place, "retention_days=25"))
    assert old in {*done.copies[0].copied, *everything.copies[0].copied}


def test_k1_a_store_that_did_not_get_its_copy_forgets_nothing(
    stocked_sqlite: Deployment, place: Path
) -> None:
    filled(stocked_sqlite, place, -20, -8)
    before = held_in(stocked_sqlite, place)
    # A file of somebody else stands where the copy of one of the backups should.
    (lost,) = made(stocked_sqlite, -0.5)
    (place / f"{lost}.db.gz").write_bytes(b"theirs")
    done = run_at(stocked_sqlite, 0, store_at(place, "retention_days=1"))
    assert not done.copies[0].ok
    assert done.copies[0].removed == ()
    assert before < held_in(stocked_sqlite, place)


@pytest.mark.parametrize("prove_it", [True, False], ids=["bad", "unproven"])
def test_k3_a_run_that_is_not_proven_lets_no_store_forget(
    stocked_sqlite: Deployment, place: Path, *, prove_it: bool
) -> None:
    filled(stocked_sqlite, place, -20, -8)
    before = held_in(stocked_sqlite, place)
    execute(stocked_sqlite, "UPDATE status_entries SET value = 1 - value")
    done = run(at(stocked_sqlite, 0, stores=store_at(place, "retention_days=1")), prove_it=prove_it)
    assert not done.proven
    assert held_in(stocked_sqlite, place) == before


def test_k2_what_another_server_put_into_the_store_stays(stocked_sqlite: Deployment, place: Path) -> None:
    old, _ = filled(stocked_sqlite, place, -20, -8)
    theirs = f"{place}/sqlite_backup_2020-01-01_00-00-00.db.gz"
    Path(theirs).write_bytes(b"theirs")
    done = run_at(stocked_sqlite, 0, store_at(place, "retention_days=10"))
    assert done.copies[0].removed == (old,)
    assert Path(theirs).read_bytes() == b"theirs"


def test_b12_a_store_holds_back_where_the_database_shrank_until_a_word(
    stocked_sqlite: Deployment, place: Path
) -> None:
    old, young = filled(stocked_sqlite, place, -20, -8)
    settings = {"BACKUP_STORES": f"{place.as_uri()}?retention_days=3", "BACKUP_RETENTION_DAYS": "off"}
    with shrunk(stocked_sqlite) as server:
        server.environment |= settings
        answer = server.obms("backup", "run")
        assert answer.code == 0, answer.err
        assert "NOT REMOVED what is too old there: sqlite_backup_" in answer.out
        assert {old, young} < held_in(stocked_sqlite, place)
        released = server.obms("backup", "prune", "--store", str(place), "--yes", "--json")
    assert released.json["removed"] == [old, young]


def test_what_is_pinned_here_stays_in_the_store_and_for_a_new_machine(
    stocked_sqlite: Deployment, place: Path, tmp_path: Path
) -> None:
    old, other = filled(stocked_sqlite, place, -20, -19)
    pin(stocked_sqlite.backups, old, "for the court")
    stores = store_at(place, "retention_days=5")
    assert run_at(stocked_sqlite, 0, stores).copies[0].removed == (other,)
    empty = replace(stocked_sqlite.backups, stores=stores)
    (reason,) = [
        row.pin.reason for row in read_catalog(open_store(str(place), {}).storage, empty.trusted) if row.pin
    ]
    assert reason == "for the court"
    stocked_sqlite.environment["BACKUP_DIR"] = str(tmp_path / "new machine")
    assert run_at(stocked_sqlite, 0, stores).copies[0].removed == ()
    assert old in held_in(stocked_sqlite, place)


def test_an_unpinned_backup_is_left_to_the_policy_of_the_store(
    stocked_sqlite: Deployment, place: Path
) -> None:
    (old,) = filled(stocked_sqlite, place, -20)
    pin(stocked_sqlite.backups, old)
    stores = store_at(place, "retention_days=5")
    assert run_at(stocked_sqlite, -1, stores).copies[0].removed == ()
    unpin(stocked_sqlite.backups, old)
    assert run_at(stocked_sqlite, 0, stores).copies[0].removed == (old,)


class Refusing:
    """A store that takes and gives, and lets nobody remove: a locked bucket, or a key without that right."""

    def __init__(self, place: Path) -> None:
        self._storage = open_store(str(place), {}).storage

    def __getattr__(self, name: str) -> object:
        return getattr(self._storage, name)

    def remove(self, name: str) -> None:
        raise StoreRefused(store="locked", detail=f"{name} is locked")


def test_a_removal_that_the_store_refuses_is_told_and_no_error(
    stocked_sqlite: Deployment, place: Path, noted: Noted
) -> None:
    old = filled(stocked_sqlite, place, -20)
    (store,) = store_at(place, "retention_days=5")
    refusing = Stores(configured=(replace(store, storage=Refusing(place)),))  # type: ignore[arg-type]
    for day in (-1, 0):
        done = run_at(stocked_sqlite, day, refusing, notify=noted)
        assert done.copies[0].ok
        assert done.copies[0].removed == ()
        assert "is locked" in str(done.copies[0].held)
        assert noted.named("backup.run")[-1].ok
    assert len(noted.named("backup.removal_refused")) == 2
    assert set(old) < held_in(stocked_sqlite, place)


def test_a_removal_that_fails_is_loud_and_the_copy_stands(stocked_sqlite: Deployment, place: Path) -> None:
    (old,) = filled(stocked_sqlite, place, -20)
    image = place / f"{old}.db.gz"
    image.unlink()
    image.mkdir()
    answer = stocked_sqlite.obms(
        "backup",
        "run",
        "--json",
        BACKUP_STORES=f"{place.as_uri()}?retention_days=5",
        BACKUP_RETENTION_DAYS="off",
    )
    assert answer.code == 9
    assert answer.json["proven"]
    assert answer.json["copies"][0]["removal_error"]
    image.rmdir()


def test_prune_of_a_store_shows_and_does_what_its_url_says(stocked_sqlite: Deployment, place: Path) -> None:
    old, young = filled(stocked_sqlite, place, -20, -3)
    url = f"{place.as_uri()}?retention_days=10"
    rows = stocked_sqlite.obms("backup", "prune", "--store", url, "--dry-run", "--json").json["backups"]
    assert [(row["id"], row["verdict"]) for row in rows] == [(young, "keep"), (old, "remove")]
    assert stocked_sqlite.obms("backup", "prune", "--store", url).code == NeedsConfirmation.exit_code
    assert stocked_sqlite.obms("backup", "prune", "--store", url, "--yes").out == f"removed {old}\n"
    assert held_in(stocked_sqlite, place) == {young}
    assert set(listed(stocked_sqlite)) == {old, young}
    assert (
        stocked_sqlite.obms("backup", "prune", "--store", str(place), "--yes").out
        == "nothing is to be removed\n"
    )


def test_prune_by_hand_keeps_what_a_store_still_lacks(stocked_sqlite: Deployment, place: Path) -> None:
    old, newest = made(stocked_sqlite, -20, -3)
    stocked_sqlite.environment |= {"BACKUP_STORES": str(place), "BACKUP_RETENTION_DAYS": "1"}
    said = stocked_sqlite.obms("backup", "prune", "--dry-run").out
    assert f"{old}  proven    kept: {place.as_uri()} has no copy of it yet" in said
    assert stocked_sqlite.obms("backup", "prune", "--yes").out == "nothing is to be removed\n"
    assert stocked_sqlite.obms("backup", "prune", "--yes", "--also-uncopied").out == f"removed {old}\n"
    assert set(listed(stocked_sqlite)) == {newest}


def test_prune_by_hand_removes_nothing_while_a_store_cannot_be_asked(
    stocked_sqlite: Deployment, tmp_path: Path
) -> None:
    ids = made(stocked_sqlite, -20, -3)
    (tmp_path / "file").write_bytes(b"")
    stocked_sqlite.environment["BACKUP_STORES"] = (
        "s3://nowhere/x?endpoint=http://127.0.0.1:9&attempts=1&timeout=1"
    )
    stocked_sqlite.environment |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    answer = stocked_sqlite.obms("backup", "prune", "--yes", BACKUP_RETENTION_DAYS="1")
    assert answer.code == StorageFailed.exit_code
    assert "--also-uncopied" in answer.err
    assert set(listed(stocked_sqlite)) == set(ids)


@pytest.mark.parametrize("in_store", [False, True])
def test_prune_by_hand_removes_nothing_when_the_newest_proven_one_is_damaged(
    stocked_sqlite: Deployment, place: Path, *, in_store: bool
) -> None:
    ids = filled(stocked_sqlite, place, -20, -3)
    folder = place if in_store else stocked_sqlite.backup_dir
    image = folder / f"{ids[-1]}.db.gz"
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)
    where = ("--store", f"{place.as_uri()}?retention_days=1") if in_store else ()
    answer = stocked_sqlite.obms("backup", "prune", *where, "--yes", BACKUP_RETENTION_DAYS="1")
    assert answer.code == BackupDamaged.exit_code
    assert f"obms backup verify {ids[-1]}" in answer.err
    assert held_in(stocked_sqlite, place) == set(listed(stocked_sqlite)) == set(ids)


def test_a_bucket_forgets_too(stocked_sqlite: Deployment, s3: S3Server) -> None:
    url = s3.url(f"{BUCKET}/{uuid4().hex}")
    keeping = open_stores((url,), s3.credentials)
    old, young = (run_at(stocked_sqlite, day, keeping).manifest.id for day in (-20, -3))
    stores = open_stores((f"{url}&retention_days=10",), s3.credentials)
    done = run_at(stocked_sqlite, 0, stores)
    assert done.copies[0].removed == (old,)
    (store,) = stores
    left = {name for name in store.storage.names() if re.match(r"\.?sqlite_backup", name)}
    assert left == {
        f"{id}.db.gz{end}" for id in (young, done.manifest.id) for end in ("", ".json", ".proof.json")
    }
    assert foresee(replace(stocked_sqlite.backups, stores=stores), store).plan.remove == ()
    assert prune(replace(stocked_sqlite.backups, stores=stores), store).removed == ()


def test_what_was_pinned_a_moment_ago_stays_in_a_store_that_is_pruned_by_hand(
    stocked_sqlite: Deployment, place: Path
) -> None:
    """The pin is not in the store yet: the next run would carry it."""
    old, _ = filled(stocked_sqlite, place, -20, -3)
    pin(stocked_sqlite.backups, old)
    url = f"{place.as_uri()}?retention_days=5"
    answer = stocked_sqlite.obms("backup", "prune", "--store", url, "--yes")
    assert answer.out == "nothing is to be removed\n"
    assert old in held_in(stocked_sqlite, place)
