"""The status: each thing is green when it is well, and is not when it is not, with what mends it."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from obms.app import open_scene
from obms.backup.counters import FILE
from obms.looking.status import read_status
from tests.backup.conftest import execute
from tests.deployment import Deployment

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


@pytest.fixture
def well(stocked: Deployment) -> Deployment:
    """A server with nothing to mend."""
    stocked.environment |= WELL | {"BACKUP_STORES": f"{stocked.folder}/far?attempts=1"}
    stocked.made_backup()
    assert stocked.obms("drill").code == 0
    return stocked


@pytest.fixture
def well_sqlite(stocked_sqlite: Deployment) -> Deployment:
    stocked_sqlite.environment |= WELL | {"BACKUP_STORES": f"{stocked_sqlite.folder}/far?attempts=1"}
    stocked_sqlite.made_backup()
    return stocked_sqlite


def test_all_is_green_where_all_is_well(well: Deployment) -> None:
    answer = well.obms("status", "--json", "--check")
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["light"] == "green", found["findings"]
    assert {one["light"] for one in found["findings"]} == {"green"}
    assert len(found["findings"]) == 10
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


def owe_the_store(server: Deployment) -> None:
    """Backups that were made while the store was not set."""
    assert server.obms("backup", "run", BACKUP_STORES="").code == 0


def shrink(server: Deployment) -> None:
    execute(server, "DELETE FROM user_roles")
    assert server.obms("backup", "run").code == 0


def lose_a_manifest(server: Deployment) -> None:
    min(server.backup_dir.glob("*.gz.json")).unlink()


def fail_a_drill(server: Deployment) -> None:
    assert server.obms("drill", "--store", str(server.folder / "empty")).code == 6


def tamper_with_a_drill(server: Deployment) -> None:
    """The last one had failed, and somebody makes it say otherwise: an older one that was good is not all."""
    assert server.obms("drill").code == 0
    fail_a_drill(server)
    newest = max((server.backup_dir / "drills").glob("*.json"))
    newest.write_bytes(newest.read_bytes().replace(b'"ok": false', b'"ok": true'))


def make_old(server: Deployment) -> None:
    execute(server, "UPDATE alembic_version SET version_num = '0001'")


@pytest.mark.parametrize(
    ("name", "light", "change", "said"),
    [
        ("last run", "red", fail_a_run, "exit 3"),
        ("store ", "red", lose_the_store, "lacks 1"),
        ("store ", "red", owe_the_store, "lacks 1"),
        ("retention", "yellow", shrink, "held back"),
        ("orphans", "yellow", lose_a_manifest, "has no manifest"),
        ("last drill", "red", fail_a_drill, "no proven backup"),
        ("drill report", "red", tamper_with_a_drill, "drill_2"),
        ("database", "red", make_old, "0001"),
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


def test_nothing_is_changed_by_looking(well_sqlite: Deployment) -> None:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in well_sqlite.backup_dir.rglob("*")}

    before = files()
    assert well_sqlite.obms("status").code == 0
    assert files() == before
