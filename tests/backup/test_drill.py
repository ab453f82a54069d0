"""Drills: the machine is lost, as far as can be played, and comes back from the farthest store."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pyrage.x25519 import Identity

from obms.app import play_drill
from obms.backup.catalog import read_manifest, read_verdict
from obms.backup.counters import read_counters
from obms.backup.drill import refuses_damage
from obms.backup.drill_report import last_drill
from obms.backup.lock import locked
from obms.backup.manifest import VERDICT_END
from obms.backup.recipients import unproven_recipients
from obms.backup.run import read_record
from obms.backup.source import Source
from obms.backup.storage import Folder
from obms.badges.examining import newest_moment
from obms.databases import writing
from obms.errors import StorageFailed
from obms.schema import issuers
from tests.backup.conftest import (
    Backed,
    Noted,
    add_issuer,
    assert_nothing_is_left,
    execute,
    found,
)
from tests.backup.test_damage import flip
from tests.backup.test_revocations_outlive import revoke, valid_ids
from tests.backup.test_verdicts import cancel, cancel_within
from tests.deployment import Deployment, Templates

LOSS = "a newer issuer"
KEYS = {"AWS_ACCESS_KEY_ID": "a key", "AWS_SECRET_ACCESS_KEY": "its secret", "AWS_REGION": "here"}


@pytest.fixture
def far(stocked: Deployment) -> Iterator[Deployment]:
    """A server of each kind with a store, and one proven backup in it."""
    stocked.environment["BACKUP_STORES"] = f"{stocked.folder / 'near'} {stocked.folder / 'far'}"
    stocked.made_backup()
    yield stocked
    stocked.database.engine.dispose()


def have_a_store(server: Deployment) -> None:
    server.environment["BACKUP_STORES"] = str(server.folder / "far")
    server.made_backup()


@pytest.fixture
def far_sqlite(templates: Templates) -> Iterator[Deployment]:
    with templates.stand_ready(have_a_store) as server:
        yield server


def image_in(folder: Path) -> Path:
    (image,) = (path for path in folder.iterdir() if path.name.endswith(".gz"))
    return image


def reports(server: Deployment, ending: str = ".json") -> list[Path]:
    return sorted((server.backup_dir / "drills").glob(f"drill_*{ending}"))


def test_it_recovers_from_the_farthest_store_alone_and_leaves_the_live_database_as_it_is(
    far: Deployment,
) -> None:
    for path in far.backup_dir.glob("*_backup_*"):
        path.unlink()
    shutil.rmtree(far.folder / "near")
    shutil.rmtree(far.backup_dir / "journal")
    add_issuer(far, LOSS)
    before = far.database.facts()
    answer = far.obms("drill", "--json")
    assert answer.code == 0, answer.err
    drill = answer.json
    assert drill["ok"]
    assert drill["store"] == (far.folder / "far").as_uri()
    assert drill["rows"]["credentials"] == 30
    assert drill["signature"]
    assert drill["signed_by"] == far.backups.trusted
    assert {"refuses a damaged copy", "application starts", "sample verifies", "keys can sign"} <= {
        check["name"] for check in drill["checks"] if check["ok"]
    }
    # Of SQLite the image, whose hash is checked, is the database: elsewhere each row is compared.
    assert ("digests" in {check["name"] for check in drill["checks"]}) == (far.database.kind == "postgresql")
    assert far.database.facts() == before
    assert_nothing_is_left(far)
    assert not list(far.backup_dir.glob("*_backup_*"))


def test_it_measures_what_would_be_lost_and_how_long_it_takes(far_sqlite: Deployment) -> None:
    drill = far_sqlite.obms("drill", "--json").json
    assert drill["rpo_seconds"] == 0
    recovery = sum(drill["stages"][stage] for stage in ("find", "fetch", "restore", "verify"))
    assert drill["rto_seconds"] == pytest.approx(recovery, abs=0.01)
    assert drill["stages"]["damage"] > 0
    with far_sqlite.database.engine.connect() as connection:
        newest = newest_moment(connection)
    assert newest is not None
    assert drill["newest_data"] == drill["newest_live"] == newest.isoformat()
    counted = read_counters(far_sqlite.backup_dir)["drill"]
    assert counted["seconds"] == drill["rto_seconds"]
    assert counted["rpo_seconds"] == drill["rpo_seconds"]
    assert counted["ok"] is True


def test_what_would_be_lost_is_told_by_the_newest_writes_of_the_live_database_and_of_the_backup(
    far: Deployment,
) -> None:
    with writing(far.database.engine) as connection:
        newest = newest_moment(connection)
        assert newest is not None
        connection.execute(sa.update(issuers).values(updated_at=newest + timedelta(hours=2)))
    drill = far.obms("drill", "--json").json
    assert drill["rpo_seconds"] == 7200
    assert drill["newest_data"] == newest.isoformat()
    assert drill["newest_live"] == (newest + timedelta(hours=2)).isoformat()


def test_what_the_journal_keeps_hides_nothing_that_would_be_lost(far_sqlite: Deployment) -> None:
    """It brings a revocation back, and not the badges that were issued before that."""
    before = far_sqlite.obms("drill", "--json").json["newest_data"]
    revoke(far_sqlite, valid_ids(far_sqlite, 1))
    drill = far_sqlite.obms("drill", "--json").json
    assert drill["newest_data"] == before
    assert drill["rpo_seconds"] > 0


def test_what_was_written_before_the_backup_is_no_loss_however_long_ago(far_sqlite: Deployment) -> None:
    """Only from the backup on: before it nobody may have written for weeks."""
    revoke(far_sqlite, valid_ids(far_sqlite, 1))
    drill = far_sqlite.obms("drill", "--json").json
    live, backed = (datetime.fromisoformat(drill[name]) for name in ("newest_live", "backup_of"))
    assert drill["rpo_seconds"] == pytest.approx((live - backed).total_seconds(), abs=0.01)
    assert timedelta(seconds=drill["rpo_seconds"]) < live - datetime.fromisoformat(drill["newest_data"])


def test_it_leaves_a_signed_report_and_a_page_of_it(far_sqlite: Deployment) -> None:
    drill = far_sqlite.obms("drill", "--json").json
    (report,), (page,) = reports(far_sqlite), reports(far_sqlite, ".html")
    backups = far_sqlite.backups
    assert backups.signer is not None
    assert json.loads(report.read_bytes())["signed_by"] == backups.signer.public
    last = last_drill(far_sqlite.backup_dir, backups.trusted)
    assert last is not None
    assert last.rto_seconds == drill["rto_seconds"]
    assert drill["page"] == str(page)
    text = page.read_text(encoding="utf-8")
    assert drill["id"] in text
    assert "passed" in text
    assert "http" not in text.replace("file://", "")
    (listed,) = far_sqlite.obms("backup", "list", "--json").json
    assert listed["id"] == drill["id"]


def test_a_report_that_was_changed_or_is_anothers_is_not_believed(far_sqlite: Deployment) -> None:
    first = far_sqlite.obms("drill", "--json").json
    far_sqlite.obms("drill")
    newer = reports(far_sqlite)[-1]
    flip(newer, newer.read_bytes().index(b'"rto_seconds"') + 16)
    trusted = far_sqlite.backups.trusted
    last = last_drill(far_sqlite.backup_dir, trusted)
    assert last is not None
    assert last.rto_seconds == first["rto_seconds"]
    assert last_drill(far_sqlite.backup_dir, "another key") is None
    assert last_drill(far_sqlite.backup_dir, None) is None


def test_without_stores_it_takes_the_backup_folder_and_a_store_can_be_named(far_sqlite: Deployment) -> None:
    far = far_sqlite.environment.pop("BACKUP_STORES")
    answer = far_sqlite.obms("drill", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["store"] == far_sqlite.backup_dir.as_uri()
    answer = far_sqlite.obms("drill", "--json", "--store", far)
    assert answer.code == 0, answer.err
    assert answer.json["store"] == Path(far).as_uri()


def test_it_works_where_the_live_database_is_lost(far_sqlite: Deployment) -> None:
    far_sqlite.database.engine.dispose()
    shutil.rmtree(far_sqlite.folder / "data")
    answer = far_sqlite.obms("drill", "--json")
    assert answer.code == 0, answer.err
    assert not (far_sqlite.folder / "data").exists()
    began, backed = (datetime.fromisoformat(answer.json[name]) for name in ("started_at", "backup_of"))
    assert answer.json["newest_live"] == ""
    assert answer.json["rpo_seconds"] == pytest.approx((began - backed).total_seconds(), abs=0.01)


def test_revocations_after_the_backup_come_from_the_journal_of_the_store(far_sqlite: Deployment) -> None:
    """And not from the folder beside the backups, which would be lost with the machine."""
    told = {check["name"]: check for check in far_sqlite.obms("drill", "--json").json["checks"]}
    assert told["journal"]["ok"]
    line = next((far_sqlite.folder / "far").glob("revocations_*"))
    line.write_bytes(line.read_bytes().replace(b'"state":"set"', b'"state":"SET"', 1))
    answer = far_sqlite.obms("drill", "--json")
    assert answer.code == 6
    told = {check["name"]: check for check in answer.json["checks"]}
    assert "1 damaged" in told["journal"]["detail"]


def test_k6_a_damaged_image_in_the_store_fails_the_drill(far: Deployment) -> None:
    image = image_in(far.folder / "far")
    flip(image, image.stat().st_size // 3)
    before = far.database.facts()
    answer = far.obms("drill", "--json")
    assert answer.code == 5
    assert answer.json["rpo_seconds"] is None
    drill = answer.json
    assert not drill["ok"]
    assert drill["exit_code"] == 5
    assert "stored bytes" in drill["error"]
    assert drill["rto_seconds"] is None
    assert far.database.facts() == before
    assert_nothing_is_left(far)
    (report,), (page,) = reports(far), reports(far, ".html")
    assert json.loads(report.read_bytes())["ok"] is False
    assert "FAILED" in page.read_text(encoding="utf-8")
    assert read_counters(far.backup_dir)["drill"]["ok"] is False


def test_k7_what_the_application_does_not_stand_by_fails_the_drill(far: Deployment) -> None:
    """A verdict of our own says that it is proven, and it is not."""
    verdict = read_verdict(far.backups.storage, read_manifest(far.backups.storage, newest_file(far)))
    assert verdict is not None
    execute(far, "UPDATE status_entries SET value = NOT value")
    assert far.obms("backup", "run", "--no-prove").code == 0
    manifest = read_manifest(far.backups.storage, newest_file(far))
    false = replace(verdict, id=manifest.id, manifest=manifest.fingerprint, digests={})
    path = far.backup_dir / (manifest.file + VERDICT_END)
    path.write_bytes(false.signed(far.backups.signer).to_bytes())
    answer = far.obms("drill", "--json", "--store", str(far.backup_dir))
    assert answer.code == 6
    assert "a drill failed at sample verifies" in answer.err
    assert not answer.json["ok"]
    assert answer.json["rto_seconds"] is None


@pytest.mark.parametrize("probe", [cancel, cancel_within], ids=["raised", "answered"])
def test_a_statement_that_somebody_cancelled_fails_the_drill_and_calls_no_backup_damaged(
    backed_postgresql: Backed, probe: Any
) -> None:
    server, made = backed_postgresql
    asked = probe if probe is cancel else probe(server)
    drilled = play_drill(replace(server.backups, probe=asked))
    assert (drilled.report.ok, drilled.report.exit_code) == (False, 3)
    assert "canceling statement" in drilled.report.error
    assert "damaged" not in drilled.report.error
    assert found(server, made["id"]).proven


def newest_file(server: Deployment) -> str:
    return str(server.obms("backup", "list", "--json").json[0]["file"])


def test_a_judge_that_takes_a_damaged_copy_fails(far_sqlite: Deployment, tmp_path: Path) -> None:
    """It is asked about a copy, and given the whole image all the same."""
    backups, file = far_sqlite.backups, newest_file(far_sqlite)
    whole = Folder(far_sqlite.backup_dir)
    source = Source(file=file, storage=whole, manifest=read_manifest(whole, file))
    copy = tmp_path / "copy"
    shutil.copyfile(far_sqlite.backup_dir / file, copy)
    told = refuses_damage(backups, source, copy)
    assert not told.ok
    assert "was restored" in told.detail
    assert copy.read_bytes() == (far_sqlite.backup_dir / file).read_bytes()


def test_nothing_proven_in_the_store_is_a_failed_drill(far_sqlite: Deployment) -> None:
    empty = far_sqlite.folder / "empty"
    empty.mkdir()
    answer = far_sqlite.obms("drill", "--json", "--store", str(empty))
    assert answer.code == 6
    assert "no proven backup" in answer.json["error"]
    assert answer.json["rpo_seconds"] is None


def test_b11_a_store_that_does_not_answer_is_a_failed_drill(far_sqlite: Deployment) -> None:
    gone = "s3://bucket/here?endpoint=http://127.0.0.1:1"
    answer = far_sqlite.obms("drill", "--json", "--store", gone, **KEYS)
    assert answer.code == 9
    assert not answer.json["ok"]


def test_r11_with_another_secret_key_the_drill_fails(far_sqlite: Deployment) -> None:
    answer = far_sqlite.obms("drill", "--json", SECRET_KEY="of another server")
    assert answer.code == 10
    assert "SECRET_KEY" in answer.json["error"]


def test_r15_without_a_private_key_it_fails_and_with_one_that_key_is_known_to_open(
    stocked_sqlite: Deployment,
) -> None:
    server, identity = stocked_sqlite, Identity.generate()
    key = server.folder / "key.txt"
    key.write_text(f"{identity}\n", encoding="utf-8")
    server.environment["BACKUP_AGE_RECIPIENTS"] = str(identity.to_public())
    server.made_backup()
    assert server.obms("drill").code == 10
    assert unproven_recipients(server.backups) == (str(identity.to_public()),)
    answer = server.obms("drill", BACKUP_AGE_IDENTITY_FILE=str(key))
    assert answer.code == 0, answer.err
    assert unproven_recipients(server.backups) == ()


def test_a_report_that_cannot_be_written_is_told(far_sqlite: Deployment) -> None:
    (far_sqlite.backup_dir / "drills").write_text("a file, where a folder is wanted", encoding="utf-8")
    answer = far_sqlite.obms("drill", "--json")
    assert answer.code == 9
    assert answer.json["page"] is None
    assert not answer.json["ok"]


def test_b8_no_drill_while_a_run_is_at_work(far_sqlite: Deployment) -> None:
    with locked(far_sqlite.backups):
        assert far_sqlite.obms("drill").code == 7
    assert reports(far_sqlite) == []


def test_it_is_an_event_and_no_run(far_sqlite: Deployment, noted: Noted) -> None:
    before = read_record(far_sqlite.backups.storage)
    done = play_drill(replace(far_sqlite.backups, notify=noted))
    (event,) = noted.events
    assert (event.name, event.ok) == ("drill.done", True)
    assert event.facts["rto_seconds"] == done.report.rto_seconds
    assert read_record(far_sqlite.backups.storage) == before


def test_a_person_reads_the_figures(far_sqlite: Deployment) -> None:
    told = far_sqlite.obms("drill").out
    assert "(RPO): " in told
    assert "(RTO): " in told
    assert told.rstrip().endswith("\nrecovered")


def test_a_drill_that_cannot_take_the_lock_is_told(sqlite: Deployment, noted: Noted) -> None:
    (sqlite.backup_dir / ".lock").mkdir(parents=True)
    drilled = play_drill(replace(sqlite.backups, notify=noted))
    assert isinstance(drilled.error, StorageFailed)
    assert [event.ok for event in noted.named("drill.done")] == [False]
