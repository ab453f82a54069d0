"""The doctor: each thing that is unsafe is found, on a real cause, and is not where it is well."""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from pyrage.x25519 import Identity

from obms.app import open_scene
from obms.looking.doctor import examine, judge_sqlite
from tests.backup.conftest import execute
from tests.backup.test_damage import flip
from tests.deployment import SECRET, Deployment, Templates
from tests.real_faults import program

WELL = {"BACKUP_SCHEDULE": "0 0 * * *", "DRILL_SCHEDULE": "0 4 * * 0"}


def unwell(server: Deployment) -> Mapping[str, str]:
    """What is not green, with its light."""
    findings = examine(open_scene(server.settings, server.backups))
    assert all(one.mend for one in findings if one.light != "green")
    return {one.name: one.light for one in findings if one.light != "green"}


def be_well(server: Deployment) -> None:
    server.environment |= WELL | {"BACKUP_STORES": str(server.folder / "far")}
    server.made_backup()


@pytest.fixture
def well(stocked: Deployment) -> Deployment:
    """A server with nothing to find."""
    be_well(stocked)
    assert unwell(stocked) == {}
    return stocked


@pytest.fixture
def well_sqlite(templates: Templates) -> Iterator[Deployment]:
    with templates.stand_ready(be_well) as server:
        yield server


def test_it_ends_with_0_where_nothing_is_red_and_with_8_where_something_is(well: Deployment) -> None:
    answer = well.obms("doctor", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["light"] == "green"
    execute(well, "UPDATE alembic_version SET version_num = '0001'")
    answer = well.obms("doctor")
    assert answer.code == 8
    assert "`obms migrate`" in answer.out
    assert "schema" in answer.err


@pytest.mark.parametrize(
    ("version", "light"),
    [("3.40.1", "red"), ("3.51.2", "red"), ("3.51.3", "green"), ("3.53.0", "green"), ("4.0.0", "green")],
)
def test_a_sqlite_with_the_wal_reset_bug_is_found(version: str, light: str) -> None:
    assert judge_sqlite(version).light == light


@pytest.mark.parametrize(
    ("found", "settings"),
    [
        ({"schedule": "yellow"}, {"BACKUP_SCHEDULE": "off"}),
        ({"drills": "yellow"}, {"DRILL_SCHEDULE": "off"}),
        ({"stores": "yellow", "disks": "yellow"}, {"BACKUP_STORES": ""}),
        ({"keys": "red", "backups": "red"}, {"SECRET_KEY": "of another server"}),
        ({"schema": "red", "keys": "red"}, {"SQLITE_FILE": "/nowhere/at/all.db"}),
        ({"notices": "red"}, {"BACKUP_NOTIFY_URLS": "nowhere"}),
        ({"escrow": "yellow"}, {"BACKUP_AGE_RECIPIENTS": str(Identity.generate().to_public())}),
        (
            dict.fromkeys(
                ("access", "escrow", "clock", "backups", "disks", "disk", "orphans", "permissions"), "red"
            ),
            {"BACKUP_DIR": "/" + "x" * 300},
        ),
    ],
)
def test_what_the_settings_make_unsafe_is_found(
    well_sqlite: Deployment, found: dict[str, str], settings: dict[str, str]
) -> None:
    well_sqlite.environment |= settings
    assert unwell(well_sqlite) == found


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("BACKUP_RETENTION", "BACKUP_RETENTION_DAYS"),
        ("backup_store", "BACKUP_STORES"),
        ("SECRET_KEYS", "SECRET_KEY"),
        ("AUTH_API_KEYS", "AUTH_API_KEY"),
        ("AUTH_API_KEY_1", None),
        ("BACKUP_USER", None),
        ("AWS_ENDPOINT_URL_S3", None),
        ("POSTGRES_USER_FILE", None),
    ],
)
def test_a_misspelt_setting_is_found(well_sqlite: Deployment, name: str, setting: str | None) -> None:
    answer = well_sqlite.obms("doctor", "--json", **{name: "school:" + "0123456789" * 4})
    told = {one["detail"]: one["mend"] for one in answer.json["findings"] if one["name"] == "settings"}
    assert told == ({f"{name} is no setting, and does nothing": f"Call it {setting}."} if setting else {})


def lose_the_store(server: Deployment) -> None:
    server.environment["BACKUP_STORES"] = "s3://bucket/here?endpoint=http://127.0.0.1:1"
    server.environment |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "here"}


def open_the_folder(server: Deployment) -> None:
    server.backup_dir.chmod(0o755)


def damage_a_manifest(server: Deployment) -> None:
    flip(next(server.backup_dir.glob("*.gz.json")), 30)


def lose_a_proof(server: Deployment) -> None:
    shutil.copy(next(server.backup_dir.glob("*.proof.json")), server.folder)
    server.obms("backup", "run", "--no-prove")


def lose_a_manifest(server: Deployment) -> None:
    server.made_backup()
    min(server.backup_dir.glob("*.gz.json")).unlink()


def forget_to_sign(server: Deployment) -> None:
    server.obms("backup", "run", SECRET_KEY="")


@pytest.mark.parametrize(
    ("change", "name", "light"),
    [
        (lose_the_store, "store s3://bucket/here", "red"),
        (open_the_folder, "permissions", "yellow"),
        (damage_a_manifest, "backups", "red"),
        (lose_a_proof, "backups", "yellow"),
        (lose_a_manifest, "orphans", "yellow"),
        (forget_to_sign, "backups", "yellow"),
    ],
)
def test_what_has_become_unsafe_is_found(
    well_sqlite: Deployment, change: Callable[[Deployment], None], name: str, light: str
) -> None:
    change(well_sqlite)
    assert unwell(well_sqlite) == {name: light}


@pytest.mark.parametrize("key", ["", "of another server"], ids=["none", "other"])
def test_what_is_typed_for_a_backup_that_is_not_ours_works_as_it_is_printed(
    well_sqlite: Deployment, key: str
) -> None:
    assert well_sqlite.obms("backup", "run", SECRET_KEY=key).code in (0, 6)
    (found,) = (
        one for one in well_sqlite.obms("doctor", "--json").json["findings"] if one["light"] != "green"
    )
    typed = re.findall(r"`obms ([^`]+)`", found["mend"])[-1]
    assert ("--accept-other-key" if key else "--accept-unsigned") in typed
    answer = well_sqlite.obms(*typed.split())
    assert answer.code == 0, answer.err


def test_settings_that_others_may_read_are_found(well_sqlite: Deployment) -> None:
    settings = well_sqlite.folder / ".env"
    settings.write_text("SECRET_KEY=x", encoding="utf-8")
    scene = replace(open_scene(well_sqlite.settings, well_sqlite.backups), settings=settings)
    for mode, lights in ((0o640, ["red"]), (0o604, ["red"]), (0o600, [])):
        settings.chmod(mode)
        assert [one.light for one in examine(scene) if one.name == "permissions"] == lights


def found_of(server: Deployment, name: str, **settings: str) -> list[tuple[str, str]]:
    """Light and detail of each finding that is called so."""
    told = server.obms("doctor", "--json", **settings).json["findings"]
    return [(one["light"], one["detail"]) for one in told if one["name"] == name]


@pytest.mark.parametrize("name", ["SECRET_KEY_FILE", "BACKUP_AGE_IDENTITY_FILE"])
def test_files_of_secrets_that_others_may_read_are_found(well_sqlite: Deployment, name: str) -> None:
    secret = well_sqlite.folder / "secret"
    secret.write_text(SECRET if name == "SECRET_KEY_FILE" else str(Identity.generate()), encoding="utf-8")
    settings = {name: str(secret), **({"SECRET_KEY": ""} if name == "SECRET_KEY_FILE" else {})}
    for mode, lights in ((0o644, ["red"]), (0o640, []), (0o600, [])):
        secret.chmod(mode)
        assert [light for light, _ in found_of(well_sqlite, "permissions", **settings)] == lights


def test_a_database_that_others_may_read_is_found(well_sqlite: Deployment) -> None:
    file = well_sqlite.settings.sqlite_file
    file.chmod(0o644)
    assert found_of(well_sqlite, "permissions") == [("yellow", f"others of this machine may read {file}")]


def test_files_that_the_settings_name_and_that_cannot_be_used_are_found(well_sqlite: Deployment) -> None:
    gone = well_sqlite.folder / "gone" / "file"
    assert found_of(well_sqlite, "secrets", BACKUP_AGE_IDENTITY_FILE=str(gone)) == [
        ("red", f"there is no file {gone}")
    ]
    assert found_of(well_sqlite, "metrics", METRICS_FILE=str(gone)) == [("red", f"{gone} cannot be written")]
    gone.parent.mkdir()
    assert found_of(well_sqlite, "metrics", METRICS_FILE=str(gone)) == []


def test_a_clock_behind_the_newest_backup_is_found(well_sqlite: Deployment) -> None:
    backups = well_sqlite.backups
    behind = replace(backups, clock=lambda: backups.clock() - timedelta(hours=1))
    findings = examine(open_scene(well_sqlite.settings, behind))
    assert [one.name for one in findings if one.light != "green"] == ["clock"]


def test_b10_a_pg_dump_that_is_too_old_is_found(stocked_postgresql: Deployment) -> None:
    server = stocked_postgresql
    folder = program(server.folder / "bin" / "pg_dump", 'echo "pg_dump (PostgreSQL) 14.1"')
    server.environment["PG_BIN_DIR"] = str(folder)
    assert unwell(server)["tools"] == "red"


def test_r14_a_missing_grant_is_found(stocked_postgresql: Deployment) -> None:
    server = stocked_postgresql
    assert server.postgres is not None
    name = str(server.database.engine.url.database)
    server.postgres.psql("CREATE ROLE poor LOGIN PASSWORD 'poor'")
    try:
        at = f"{server.postgres.host}:{server.postgres.port}"
        server.environment["DATABASE_URL"] = f"postgresql://poor:poor@{at}/{name}"
        assert unwell(server)["rights"] == "red"
    finally:
        server.postgres.psql("DROP ROLE poor")
