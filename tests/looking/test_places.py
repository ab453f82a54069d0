"""The folders and disks that a run needs: what it may not use is found, and where there is no room."""

import os
import pwd
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from obms.backup.journal import FOLDER
from tests.deployment import Deployment
from tests.real_faults import bound_by_modes, fill_disk, read_only_view, small_disk


def of(server: Deployment, name: str, **settings: str) -> Mapping[str, Any]:
    """What `status` and `doctor` both say of it."""
    asked = [server.obms(command, "--json", **settings) for command in ("status", "doctor")]
    first, second = (next(one for one in answer.json["findings"] if one["name"] == name) for answer in asked)
    assert first == second
    assert (first["light"] == "red") <= (asked[1].code == 8)
    return dict(first)


@pytest.fixture
def backed_up(stocked_sqlite: Deployment) -> Deployment:
    stocked_sqlite.made_backup()
    (stocked_sqlite.backup_dir / FOLDER).mkdir(exist_ok=True)
    assert of(stocked_sqlite, "access")["light"] == "green"
    return stocked_sqlite


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (".", 0o500),
        (".lock", 0),
        (".work", 0o500),
        ("counters.json", 0o400),
        (FOLDER, 0o500),
        ("*.gz", 0),
        ("*.gz.json", 0),
    ],
)
def test_what_a_run_may_not_use_is_found_with_what_gives_it_back(
    backed_up: Deployment, name: str, mode: int
) -> None:
    folder = backed_up.backup_dir
    path = folder if name == "." else next(folder.glob(name))
    path.chmod(mode)
    with bound_by_modes():
        found = of(backed_up, "access")
        assert found["light"] == "red"
        assert str(path) in found["detail"]
        subprocess.run(found["mend"].strip("`"), shell=True, check=True)  # noqa: S602 - as it is printed
        assert of(backed_up, "access")["light"] == "green"


def test_a_folder_in_which_every_run_ends_with_9_is_red_before_the_first_of_them(
    backed_up: Deployment,
) -> None:
    backed_up.backup_dir.chmod(0o500)
    with bound_by_modes():
        assert backed_up.obms("backup", "run").code == 9
        assert of(backed_up, "access")["light"] == "red"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_belongs_to_somebody_else_is_told_with_whom_it_has_to_belong_to(backed_up: Deployment) -> None:
    manifest = next(backed_up.backup_dir.glob("*.gz.json"))
    manifest.chmod(0o600)
    os.chown(manifest, 65534, -1)
    with bound_by_modes():
        found = of(backed_up, "access")
        (newest,) = (
            one
            for one in backed_up.obms("status", "--json").json["findings"]
            if one["name"].startswith("newest")
        )
    assert found["mend"] == f"`chown -R root {backed_up.backup_dir}`"
    assert "Permission denied" in newest["detail"]


def test_a_folder_that_cannot_be_made_is_found(stocked_sqlite: Deployment, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    me = pwd.getpwuid(os.geteuid()).pw_name
    with bound_by_modes():
        found = of(stocked_sqlite, "access", BACKUP_DIR=str(closed / "backups"))
    assert (found["light"], found["mend"]) == ("red", f"`install -d -o {me} {closed}/backups`")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_read_only_disk_is_not_mended_by_giving_it_away(backed_up: Deployment, tmp_path: Path) -> None:
    with read_only_view(backed_up.backup_dir, tmp_path / "view") as view:
        found = of(backed_up, "access", BACKUP_DIR=str(view))
    assert (found["light"], found["mend"]) == ("red", f"Mount {view} so that it can be written.")


@pytest.mark.parametrize("leave", [100_000, 0])
def test_a_disk_without_room_for_the_first_backup_is_red(
    stocked_sqlite: Deployment, tmp_path: Path, leave: int
) -> None:
    with small_disk(tmp_path / "small", 8000) as mounted:
        if not mounted:
            pytest.skip("only root mounts")
        folder = tmp_path / "small"
        assert of(stocked_sqlite, "disk", BACKUP_DIR=str(folder))["light"] in ("green", "yellow")
        fill_disk(folder, leave=leave)
        found = of(stocked_sqlite, "disk", BACKUP_DIR=str(folder))
    assert found["light"] == "red"
    assert " 0 B needed" not in found["detail"]


def test_a_disk_on_which_the_database_could_not_be_restored_is_red(
    backed_up: Deployment, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", 8000) as mounted:
        if not mounted:
            pytest.skip("only root mounts")
        live = tmp_path / "small" / "openbadges.db"
        live.write_bytes((backed_up.folder / "data" / "openbadges.db").read_bytes())
        assert of(backed_up, "disk of the database", SQLITE_FILE=str(live))["light"] == "green"
        fill_disk(live.parent, leave=100_000)
        found = of(backed_up, "disk of the database", SQLITE_FILE=str(live))
    assert found["light"] == "red"
