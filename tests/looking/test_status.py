"""The status: each thing is green when it is well, and is not when it is not, with what mends it."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from obms.app import open_scene
from obms.backup.counters import FILE
from obms.backup.keeper import SCHEDULE, holding, is_held
from obms.backup.run import RECORD
from obms.databases.sqlite import Sqlite
from obms.databases.sqlite_snapshot import SIDE_FILES
from obms.looking import Finding
from obms.looking.status import read_status
from tests.backup.conftest import execute
from tests.deployment import Deployment, Templates
from tests.listening import listening
from tests.real_faults import bound_by_modes

WELL = {
    "BACKUP_SCHEDULE": "0 0 * * *",
    "DRILL_SCHEDULE": "0 4 * * 0",
    "BACKUP_NOTIFY_URLS": "https://127.0.0.1:1/",
}


def of(server: Deployment, name: str, **settings: str) -> Mapping[str, Any]:
    """The one line of this name."""
    answer = server.obms("status", "--json", **settings)
    assert answer.code == 0, answer.err
    (found,) = (one for one in answer.json["findings"] if one["name"].startswith(name))
    return dict(found)


def be_well(server: Deployment) -> None:
    server.environment |= WELL | {"BACKUP_STORES": f"{server.folder}/far?attempts=1"}
    server.made_backup()


@pytest.fixture
def well(stocked: Deployment) -> Deployment:
    """A server with nothing to mend."""
    be_well(stocked)
    assert stocked.obms("drill").code == 0
    return stocked


@pytest.fixture
def well_sqlite(templates: Templates) -> Iterator[Deployment]:
    with templates.stand_ready(be_well) as server:
        yield server


def test_all_is_green_where_all_is_well(well: Deployment) -> None:
    answer = well.obms("status", "--json", "--check")
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["light"] == "green", found["findings"]
    assert {one["light"] for one in found["findings"]} == {"green"}
    assert len(found["findings"]) == (13 if well.postgres else 14)
    assert found["newest_proven"] == found["drill"]["id"]
    assert 0 < found["age_seconds"] < 120
    assert found["next_run"]
    assert well.obms("status").out.startswith("GREEN\n")


def test_a_new_server_is_red_and_told_what_to_type(sqlite: Deployment) -> None:
    answer = sqlite.obms("status", "--check")
    assert answer.code == 6
    assert answer.out.startswith("RED\n")
    assert "-> `obms backup run`" in answer.out
    assert "-> `obms drill`" in answer.out
    assert "newest proven backup" in answer.err
    assert sqlite.obms("status").code == 0


@pytest.mark.parametrize(
    ("name", "light", "settings"),
    [
        ("next run", "yellow", {"BACKUP_SCHEDULE": "off"}),
        ("notices", "yellow", {"BACKUP_NOTIFY_URLS": ""}),
        ("stores", "yellow", {"BACKUP_STORES": ""}),
        ("newest proven", "red", {"BACKUP_MAX_AGE": "0"}),
        ("backups", "red", {"BACKUP_DIR": "/" + "x" * 300}),
        ("disk", "red", {"BACKUP_DIR": "/" + "x" * 300}),
        ("newest proven", "red", {"SECRET_KEY": "of another server"}),
        ("keys", "red", {"SECRET_KEY": "of another server"}),
        ("notices", "red", {"BACKUP_NOTIFY_URLS": "nowhere"}),
        ("notices", "red", {"BACKUP_HEARTBEAT_URL": "mailto://nowhere"}),
        ("database", "red", {"SQLITE_FILE": "/nowhere/at/all.db"}),
        ("last drill", "yellow", {}),
    ],
)
def test_what_the_settings_make_unwell_is_told(
    well_sqlite: Deployment, name: str, light: str, settings: dict[str, str]
) -> None:
    found = of(well_sqlite, name, **settings)
    assert found["light"] == light
    assert found["mend"]


def fail_a_run(server: Deployment) -> None:
    assert server.obms("backup", "run", SQLITE_FILE="/nowhere/at/all.db").code == 3


def lose_the_store(server: Deployment) -> None:
    shutil.rmtree(server.folder / "far")
    (server.folder / "far").write_text("a file", encoding="utf-8")
    assert server.obms("backup", "run").code == 9


def revoke_without_the_store(server: Deployment) -> None:
    server.backups.later.journal.append([{"known": "here alone"}])


def fail_to_ship(server: Deployment) -> None:
    revoke_without_the_store(server)
    lose_the_store(server)


def owe_the_store(server: Deployment) -> None:
    """Backups that were made while the store was not set."""
    assert server.obms("backup", "run", BACKUP_STORES="").code == 0


def shrink(server: Deployment) -> None:
    execute(server, "DELETE FROM user_roles")
    assert server.obms("backup", "run").code == 0


def lose_a_manifest(server: Deployment) -> None:
    min(server.backup_dir.glob("*.gz.json")).unlink()


def fail_a_drill(server: Deployment) -> None:
    empty = server.folder / "empty"
    empty.mkdir()
    assert server.obms("drill", "--store", str(empty)).code == 6


def tamper_with_a_drill(server: Deployment) -> None:
    """The last one had failed, and somebody makes it say otherwise: an older one that was good is not all."""
    assert server.obms("drill").code == 0
    fail_a_drill(server)
    newest = max((server.backup_dir / "drills").glob("*.json"))
    newest.write_bytes(newest.read_bytes().replace(b'"ok": false', b'"ok": true'))


def lose_a_notice(server: Deployment) -> None:
    """The newest one, and not the one before it."""
    with listening(200, 500, 500, 500) as listener:
        server.environment["BACKUP_NOTIFY_URLS"] = listener.address
        fail_a_run(server)
        assert of(server, "notices")["light"] == "green"
        fail_a_run(server)


def tear_the_record(server: Deployment) -> None:
    (server.backup_dir / RECORD).write_text("{", encoding="utf-8")


def tear_each_manifest(server: Deployment) -> None:
    for path in server.backup_dir.glob("*.gz.json"):
        path.write_text("{", encoding="utf-8")


def make_old(server: Deployment) -> None:
    execute(server, "UPDATE alembic_version SET version_num = '0001'")


@pytest.mark.parametrize(
    ("name", "light", "change", "said"),
    [
        ("last run", "red", fail_a_run, "exit 3"),
        ("store ", "red", lose_the_store, "lacks 1"),
        ("store ", "red", owe_the_store, "lacks 1"),
        ("revocations in", "yellow", revoke_without_the_store, "of the journal"),
        ("revocations in", "red", fail_to_ship, "of the journal"),
        ("retention", "yellow", shrink, "held back"),
        ("orphans", "yellow", lose_a_manifest, "has no manifest"),
        ("last drill", "red", fail_a_drill, "no proven backup"),
        ("drill report", "red", tamper_with_a_drill, "drill_2"),
        ("database", "red", make_old, "0001"),
        ("notices", "yellow", lose_a_notice, "the newest one to http://127.0.0.1 was not delivered"),
        ("last run", "yellow", tear_the_record, "last_run.json cannot be read"),
        ("newest proven", "red", tear_each_manifest, "none of 1 is proven"),
    ],
)
def test_what_has_gone_wrong_is_told(
    well_sqlite: Deployment, name: str, light: str, change: Callable[[Deployment], None], said: str
) -> None:
    change(well_sqlite)
    found = of(well_sqlite, name)
    assert found["light"] == light
    assert said in found["detail"]
    assert found["mend"]


def test_a_lost_database_is_told_with_what_brings_it_back(well_sqlite: Deployment, tmp_path: Path) -> None:
    lost = {"SQLITE_FILE": str(tmp_path / "lost.db")}
    for command in ("status", "doctor"):
        told = well_sqlite.obms(command, **lost).out
        assert f"There is no database {tmp_path}/lost.db." in told
        assert "`obms restore latest`" in told


def test_an_old_drill_is_yellow(well: Deployment) -> None:
    backups = well.backups
    later = replace(backups, clock=lambda: backups.clock() + timedelta(days=100))
    findings = read_status(open_scene(well.settings, later)).findings
    (found,) = (one for one in findings if one.name == "last drill")
    assert found.light == "yellow"


def test_lost_notices_are_counted(well_sqlite: Deployment) -> None:
    counters = well_sqlite.backup_dir / FILE
    counted = json.loads(counters.read_text(encoding="utf-8")) | {"undelivered_notices": 7}
    counters.write_text(json.dumps(counted), encoding="utf-8")
    assert of(well_sqlite, "notices")["detail"].startswith("7 could not")


@pytest.mark.parametrize("settings", [{}, {"BACKUP_NOTIFY_URLS": "nowhere"}], ids=["well", "bad URL"])
def test_nothing_is_changed_by_looking(well_sqlite: Deployment, settings: dict[str, str]) -> None:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in well_sqlite.folder.rglob("*") if path.is_file()}

    before = files()
    missing = well_sqlite.folder / "missing"
    for command in ("status", "doctor"):
        well_sqlite.obms(command, **settings)
        well_sqlite.obms(command, **settings, BACKUP_DIR=str(missing))
    assert files() == before
    assert not missing.exists()


def test_backups_under_another_key_are_told_with_what_opens_them(well_sqlite: Deployment) -> None:
    for key in ("of another server", ""):
        found = of(well_sqlite, "newest proven", SECRET_KEY=key)
        assert found["detail"].startswith("1 are proven under another SECRET_KEY")
        assert found["mend"].startswith("Set SECRET_KEY")


def at(server: Deployment, ahead: timedelta) -> Mapping[str, Finding]:
    """What is found when the clock says something else."""
    backups = server.backups
    there = replace(backups, clock=lambda: backups.clock() + ahead)
    return {one.name: one for one in read_status(open_scene(server.settings, there)).findings}


def test_a_clock_years_behind_is_said_in_words(well_sqlite: Deployment) -> None:
    found = at(well_sqlite, timedelta(days=-3650, hours=-12))["newest proven backup"]
    assert found.light == "red"
    assert "made 3650 days, 1" in found.detail
    assert "ahead of this machine's clock" in found.detail
    assert found.mend == "`timedatectl set-ntp true`"


def test_a_backup_that_is_too_old_says_how_old_it_may_be(well_sqlite: Deployment) -> None:
    assert at(well_sqlite, timedelta(days=3))["newest proven backup"].detail.endswith(", and may be 26 h")


def test_a_schedule_that_nobody_keeps_is_found_once_a_run_is_overdue(well_sqlite: Deployment) -> None:
    assert at(well_sqlite, timedelta())["next run"].light == "green"
    late = timedelta(days=2)
    found = at(well_sqlite, late)["next run"]
    assert (found.light, found.mend) == ("yellow", "`obms backup schedule`")
    hold = holding(well_sqlite.backup_dir, SCHEDULE)
    assert hold()
    assert at(well_sqlite, late)["next run"].light == "green"
    assert hold()  # to be looked at loses nothing


def test_the_process_that_keeps_the_schedule_is_seen(sqlite: Deployment) -> None:
    sqlite.environment["BACKUP_SCHEDULE"] = "0 0 * * *"
    assert of(sqlite, "next run")["light"] == "yellow"
    with sqlite.start("backup", "schedule") as command:
        assert command.stderr is not None
        assert any("schedule.next" in line for line in command.stderr)
        assert of(sqlite, "next run")["light"] == "green"
        assert not holding(sqlite.backup_dir, SCHEDULE)()
        command.kill()
    assert of(sqlite, "next run")["light"] == "yellow"
    assert holding(sqlite.backup_dir, SCHEDULE)()


def test_what_may_not_be_looked_at_is_not_seen_to_be_held(tmp_path: Path) -> None:
    hold = holding(tmp_path, SCHEDULE)
    assert hold()
    assert is_held(tmp_path, SCHEDULE)
    (tmp_path / SCHEDULE).chmod(0)
    with bound_by_modes():
        assert not is_held(tmp_path, SCHEDULE)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def make_garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_another(path: Path) -> None:
    """What SQLite makes of an empty file: a database without a table."""
    path.unlink()
    Sqlite(path, work=path.parent).create()


@pytest.mark.parametrize("damage", [empty, make_garbage, cut_in_half, make_another])
def test_a_damaged_database_file_is_told_with_what_brings_it_back(
    well_sqlite: Deployment, damage: Callable[[Path], None]
) -> None:
    path = well_sqlite.folder / "data" / "openbadges.db"
    well_sqlite.database.engine.dispose()
    for end in SIDE_FILES:
        path.with_name(path.name + end).unlink(missing_ok=True)
    damage(path)
    size = path.stat().st_size
    status, doctor = (
        well_sqlite.obms(command, "--json").json["findings"] for command in ("status", "doctor")
    )
    for name, findings in (("database", status), ("schema", doctor), ("keys", status), ("keys", doctor)):
        (found,) = (one for one in findings if one["name"] == name)
        assert found["light"] == "red"
        assert "`obms restore latest`" in found["mend"]
    assert path.stat().st_size == size
    assert well_sqlite.obms("restore", "latest", "--yes").code == 0
    assert of(well_sqlite, "database")["light"] == "green"


def test_an_empty_file_is_not_backed_up_as_if_it_were_a_database(well_sqlite: Deployment) -> None:
    empty(well_sqlite.folder / "data" / "openbadges.db")
    answer = well_sqlite.obms("backup", "run")
    assert answer.code == 3
    assert "the file is empty" in answer.err
    assert of(well_sqlite, "newest proven")["light"] == "green"
