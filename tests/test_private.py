"""Backups and databases are for the server's user alone, unless a group shares their folder."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from obms import private
from obms.databases.sqlite import Sqlite
from obms.databases.sqlite_snapshot import connect
from tests.deployment import Deployment
from tests.real_faults import NOBODY


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(folder: Path) -> dict[str, int]:
    """Of all files and folders in it that are not empty locks."""
    found = (path for path in (folder, *folder.rglob("*")) if path.name != ".lock")
    return {str(path.relative_to(folder.parent)): mode(path) for path in found}


def make_everything(server: Deployment) -> None:
    server.environment["BACKUP_STORES"] = str(server.folder / "store")
    server.made_backup()
    assert server.obms("drill").code == 0
    server.database.engine.dispose()
    for file in server.settings.sqlite_file.parent.iterdir():
        file.unlink()
    assert server.obms("restore", "latest", "--yes").code == 0


def test_what_is_made_may_be_read_by_its_owner_alone(stocked_sqlite: Deployment) -> None:
    make_everything(stocked_sqlite)
    for name in ("backups", "store"):
        found = modes(stocked_sqlite.folder / name)
        assert len(found) > 3
        assert {path: given for path, given in found.items() if given & 0o077} == {}
    assert mode(stocked_sqlite.settings.sqlite_file) == 0o600


@pytest.mark.parametrize("shared", [0o2750, 0o2775, 0o775])
def test_what_is_made_in_a_folder_that_a_group_shares_may_be_read_by_the_group(
    stocked_sqlite: Deployment, shared: int
) -> None:
    stocked_sqlite.backup_dir.mkdir()
    for folder in (stocked_sqlite.backup_dir, stocked_sqlite.settings.sqlite_file.parent):
        folder.chmod(shared)
    make_everything(stocked_sqlite)
    found = modes(stocked_sqlite.backup_dir)
    assert found["backups"] == shared
    assert {path: given for path, given in found.items() if not given & stat.S_IRGRP} == {}
    assert mode(stocked_sqlite.settings.sqlite_file) & stat.S_IRGRP


def test_a_new_database_may_be_read_by_its_owner_alone_with_the_files_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "data" / "new.db"
    Sqlite(path, work=tmp_path).create()
    opened = connect(path)
    opened.execute("CREATE TABLE one (two)")
    assert modes(path.parent) == {
        "data": 0o700,
        **dict.fromkeys(("data/new.db", "data/new.db-wal", "data/new.db-shm"), 0o600),
    }
    opened.close()


def test_folders_and_files_that_are_there_keep_their_modes(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    file = tmp_path / "open" / "file"
    file.touch(mode=0o644)
    private.make_folder(file.parent)
    os.close(private.open_file(file, os.O_RDWR))
    assert modes(file.parent) == {"open": 0o755, "open/file": 0o644}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives away")
def test_what_root_makes_belongs_to_whom_the_folder_does(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    private.make_folder(tmp_path / "folder")
    os.close(private.open_file(tmp_path / "folder" / "file", os.O_RDWR))
    assert {path.stat().st_uid for path in tmp_path.rglob("*")} == {NOBODY}


def test_a_folder_below_one_of_everybody_is_not_shared(tmp_path: Path) -> None:
    (tmp_path / "everybody").mkdir()
    (tmp_path / "everybody").chmod(0o1777)
    private.make_folder(tmp_path / "everybody" / "backups")
    assert mode(tmp_path / "everybody" / "backups") == 0o700
