"""An image of ours whose manifest was taken away is believed by nobody; a file made by hand is restored."""

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.backup.conftest import Backed, add_issuer, issuer_names
from tests.backup.test_restoring_faults import by_hand
from tests.deployment import Deployment

TRUSTED = "it has no manifest"


def forge(server: Deployment, image: Path) -> None:
    """What whoever can write there does: another image under the name, and nothing beside it to compare."""
    forged = server.folder / "forged"
    by_hand(server, forged)
    with closing(sqlite3.connect(forged)) as database, database:
        database.execute("UPDATE issuers SET name = 'forged'")
    image.write_bytes(gzip.compress(forged.read_bytes(), 1))
    for end in (".json", ".proof.json"):
        Path(f"{image}{end}").unlink()


@pytest.fixture
def places(backed_sqlite: Backed) -> tuple[Deployment, Any, Path]:
    """A server with one backup in BACKUP_DIR and in a folder that is its store."""
    server, _ = backed_sqlite
    store = server.folder / "store"
    server.environment["BACKUP_STORES"] = str(store)
    return server, server.made_backup(), store


@pytest.mark.parametrize("named", ["id", "path", "in the store", "path in the store"])
def test_k6_an_image_of_ours_that_has_lost_its_manifest_is_not_restored(
    places: tuple[Deployment, Any, Path], named: str
) -> None:
    server, made, store = places
    folder = store if "store" in named else server.backup_dir
    forge(server, folder / made["file"])
    name = [str(folder / made["file"])] if "path" in named else [made["id"]]
    name += ["--store", str(store)] if named == "in the store" else []
    before = issuer_names(server)
    for also in (["--yes"], ["--dry-run"], ["--only", "issuer=x", "--yes"]):
        answer = server.obms("restore", *name, *also)
        assert (answer.code, "--accept-unsigned" in answer.err) == (8, True), answer.err
        assert "no manifest" in answer.err
    assert issuer_names(server) == before
    accepted = server.obms("restore", *name, "--yes", "--accept-unsigned")
    assert accepted.code == 0, accepted.err
    assert TRUSTED in accepted.out
    assert issuer_names(server) == {"forged"}


def test_r13_a_file_that_was_copied_alone_to_a_new_machine_is_restored_and_told_of(
    places: tuple[Deployment, Any, Path],
) -> None:
    server, made, store = places
    server.database.engine.dispose()
    server.settings.sqlite_file.unlink()
    for folder in (server.backup_dir, store):
        (folder / f"{made['file']}.json").unlink()
    assert server.obms("restore", made["id"], "--store", str(store), "--yes").code == 8
    restored = server.obms("restore", str(server.backup_dir / made["file"]), "--yes")
    assert restored.code == 0, restored.err
    assert TRUSTED in restored.out


@pytest.mark.parametrize("folder", ["backups", "elsewhere"])
def test_k6_of_a_file_that_was_made_by_hand_it_is_told_that_nothing_was_compared(
    stocked_sqlite: Deployment, folder: str
) -> None:
    """In BACKUP_DIR under the name that the guide's own command gives, elsewhere under any."""
    server = stocked_sqlite
    name = "sqlite_backup_2026-11-22.db.gz" if folder == "backups" else "sqlite_backup_2026-11-22_00-00-00.db"
    path = server.folder / folder / name
    path.parent.mkdir()
    by_hand(server, server.folder / "plain")
    plain = (server.folder / "plain").read_bytes()
    path.write_bytes(gzip.compress(plain, 1) if name.endswith(".gz") else plain)
    issuer = min(issuer_ids(server))
    add_issuer(server, "later")
    planned = server.obms("restore", str(path), "--dry-run")
    assert "rows: unknown (it has no manifest to compare it with) in the backup" in planned.out
    assert TRUSTED in server.obms("restore", str(path), "--only", f"issuer={issuer}", "--yes").out
    restored = server.obms("restore", str(path), "--yes")
    assert restored.code == 0, restored.err
    assert TRUSTED in restored.out
    assert "later" not in issuer_names(server)


def issuer_ids(server: Deployment) -> set[str]:
    with server.database.engine.connect() as connection:
        return set(connection.exec_driver_sql("SELECT id FROM issuers").scalars())


def test_a_backup_with_no_rows_is_not_called_unknown(sqlite: Deployment) -> None:
    sqlite.made_backup()
    assert (
        "\nrows: 0 in the backup, 0 in the live database\n"
        in sqlite.obms("restore", "latest", "--dry-run").out
    )
