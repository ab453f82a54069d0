"""Restoring from a store: on a machine that has nothing but its URL and the key (R13)."""

import shlex
from pathlib import Path
from uuid import uuid4

import pytest

from obms.backup.stores import join_name
from tests.backup.conftest import issuer_names
from tests.deployment import Deployment
from tests.proxy import Proxy
from tests.s3_server import BUCKET, S3Server


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store of each kind."""
    if request.param == "folder":
        return f"{(tmp_path / 'copies').as_uri()}"
    server: S3Server = request.getfixturevalue("s3")
    return server.url(f"{BUCKET}/{uuid4().hex}")


@pytest.fixture
def copied(stocked: Deployment, store: str, s3: S3Server) -> Deployment:
    """A server whose backup is in the store."""
    stocked.environment |= s3.environment
    answer = stocked.obms("backup", "run", "--json", BACKUP_STORES=store)
    assert answer.code == 0, answer.err
    return stocked


def lose_the_machine(server: Deployment) -> None:
    """The folder of the backups is gone, and the database with it."""
    server.database.engine.dispose()
    server.environment["BACKUP_DIR"] = str(server.folder / "new" / "backups")
    if server.postgres is not None:
        name = str(server.database.engine.url.database)
        server.postgres.psql(f'DROP DATABASE "{name}" WITH (FORCE)')
        return
    server.environment["SQLITE_FILE"] = str(server.folder / "new" / "openbadges.db")


@pytest.mark.parametrize("by_option", [True, False], ids=["--store", "URL"])
def test_r13_an_empty_machine_is_restored_from_a_store_and_the_key(
    copied: Deployment, store: str, by_option: bool
) -> None:
    """R13: no local backup, no database; the image is not copied into BACKUP_DIR either."""
    wanted = issuer_names(copied)
    lose_the_machine(copied)
    name = ["latest", "--store", store] if by_option else [join_name(store, "latest")]
    plan = copied.obms("restore", *name, "--dry-run", "--json")
    assert plan.code == 0, plan.err
    assert plan.json["live_rows"] is None
    answer = copied.obms("restore", *name, "--yes", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["proven"]
    copied.database = copied.backups.database
    assert issuer_names(copied) == wanted
    assert copied.obms("backup", "list", "--json").json == []
    assert copied.made_backup()["rows"]["credentials"] == 30


def test_when_the_folder_is_lost_latest_tells_of_the_stores(copied: Deployment, store: str) -> None:
    lose_the_machine(copied)
    answer = copied.obms("restore", "latest", "--yes", BACKUP_STORES=store)
    assert answer.code == 2
    assert f"`obms restore {join_name(store.partition('?')[0], 'latest')}`" in answer.err


def test_a_store_that_cannot_be_asked_is_named_when_the_folder_is_lost(
    stocked_sqlite: Deployment, s3: S3Server
) -> None:
    stocked_sqlite.environment |= s3.environment
    url = s3.url(f"{BUCKET}/x", endpoint="http://127.0.0.1:1")
    answer = stocked_sqlite.obms("restore", "latest", "--yes", BACKUP_STORES=url)
    assert answer.code == 2
    assert "may hold some, and cannot be read now" in answer.err


@pytest.mark.parametrize("name", ["latest", "id", "file"])
def test_show_and_list_look_into_a_store(copied: Deployment, store: str, name: str) -> None:
    (listed,) = copied.obms("backup", "list", "--store", store, "--json").json
    assert listed["proven"]
    shown = copied.obms("backup", "show", listed.get(name, name), "--store", store, "--json")
    assert shown.json["id"] == listed["id"]
    assert shown.json["proof"]["level"] == "proven"


def test_a_name_that_the_store_does_not_hold_is_not_found(copied: Deployment, store: str) -> None:
    answer = copied.obms("restore", "sqlite_backup_1", "--store", store, "--yes")
    assert answer.code == 2
    assert "no backup 'sqlite_backup_1'" in answer.err
    told = f"`obms backup list --store {shlex.quote(store)}`"
    assert told in answer.err
    assert told in copied.obms("backup", "show", "sqlite_backup_1", "--store", store).err


def test_a_file_made_by_hand_is_restored_from_a_store(stocked_sqlite: Deployment, tmp_path: Path) -> None:
    made = stocked_sqlite.made_backup()
    (tmp_path / "copies").mkdir()
    image = (stocked_sqlite.backup_dir / made["file"]).read_bytes()
    (tmp_path / "copies" / "monday.gz").write_bytes(image)
    answer = stocked_sqlite.obms(
        "restore", "monday.gz", "--store", str(tmp_path / "copies"), "--yes", "--json"
    )
    assert answer.code == 0, answer.err
    assert answer.json["rows"]["credentials"] == 30


def test_r1_what_arrives_damaged_is_refused_before_anything_is_touched(
    stocked_sqlite: Deployment, s3: S3Server, proxy: Proxy
) -> None:
    """R1: the store holds it whole, and the way from there changes a bit."""
    stocked_sqlite.environment |= s3.environment
    place = f"{BUCKET}/{uuid4().hex}"
    assert stocked_sqlite.obms("backup", "run", BACKUP_STORES=s3.url(place)).code == 0
    wanted = issuer_names(stocked_sqlite)
    proxy.flip = True
    answer = stocked_sqlite.obms(
        "restore", "latest", "--store", s3.url(place, endpoint=proxy.endpoint), "--yes"
    )
    assert answer.code == 5
    assert issuer_names(stocked_sqlite) == wanted
