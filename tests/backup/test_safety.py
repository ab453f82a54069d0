"""The safety backup: made beside the rest of a restore, and what the live database last held is in it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any

import psutil
import pytest

from obms.backup import Backups
from obms.backup.create import Unwanted, create
from obms.backup.journal import Entry
from obms.backup.lock import locked
from obms.backup.manifest import MANIFEST_END
from obms.backup.restore import restore, undo
from obms.backup.storage import Folder
from obms.databases import Chunks, Database, writing
from obms.errors import BackupDamaged
from tests.backup.conftest import (
    Backed,
    add_issuer,
    assert_nothing_is_left,
    execute,
    images,
    issuer_names,
    manifest_of,
)
from tests.deployment import Deployment
from tests.real_faults import wait_until

PATIENCE = 30.0


@dataclass(slots=True, eq=False)
class Announcing:
    """The folder of the backups, which says when a manifest was published in it."""

    real: Folder
    published: Event = field(default_factory=Event)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def put(self, name: str, chunks: Chunks, **asked: Any) -> None:
        self.real.put(name, chunks, **asked)
        if name.endswith(MANIFEST_END):
            self.published.set()


def written_late(server: Deployment) -> Backups:
    """What restores, where somebody writes when the safety backup is made, and before the switch."""
    storage = Announcing(Folder(server.backup_dir))
    usual = server.backups

    def migrate(copy: Database, name: str, version: str) -> object:
        assert storage.published.wait(PATIENCE)
        add_issuer(server, "at the last moment")
        return usual.migrate(copy, name, version)

    return replace(usual, storage=storage, migrate=migrate)


def test_what_is_written_after_the_safety_backup_was_made_is_brought_back_by_an_undo(backed: Backed) -> None:
    server, _ = backed
    before = images(server)
    done = restore(written_late(server), "latest")
    assert "at the last moment" not in issuer_names(server)
    added = [name for name in images(server) if name not in before]
    assert all(name.startswith(str(done.safety_backup)) for name in added)
    assert undo(server.backups).id == done.safety_backup
    assert "at the last moment" in issuer_names(server)


def test_what_is_written_last_is_in_the_file_of_the_safety_backup(backed: Backed) -> None:
    server, _ = backed
    before = server.database.facts().rows["issuers"]
    safety = str(restore(written_late(server), "latest").safety_backup)
    assert manifest_of(server, safety).rows["issuers"] == before + 1
    assert server.obms("backup", "verify", safety).code == 0
    assert_nothing_is_left(server)


@pytest.mark.parametrize(
    "write",
    [
        "UPDATE issuers SET name = name || '!' WHERE id = (SELECT min(id) FROM issuers)",
        "DELETE FROM endorsements WHERE id = (SELECT min(id) FROM endorsements)",
    ],
)
def test_only_who_writes_overtakes_it(backed: Backed, write: str) -> None:
    server, _ = backed
    with server.database.overtaken() as overtaken:
        with server.database.snapshot() as snapshot:
            assert b"".join(snapshot.chunks())
        issuer_names(server)
        assert not overtaken()
        execute(server, write)
        assert overtaken()


def test_who_reads_the_database_for_a_backup_that_nobody_wants_any_more_is_ended(backed: Backed) -> None:
    server, _ = backed
    unwanted = Event()
    unwanted.set()
    before = set(psutil.Process().children())
    with locked(server.backups), pytest.raises(Unwanted) as kept:  # with all that it passed through
        create(server.backups, reason="safety", unwanted=unwanted)
    assert set(psutil.Process().children()) == before
    assert kept.value.__traceback__ is not None


class Ended(Exception):
    """As a kill would end it."""


def test_r4_before_its_switch_a_restore_has_not_changed_the_way_back(backed: Backed) -> None:
    server, _ = backed
    record = server.backup_dir / "last_restore.json"

    def replay(*_arguments: object) -> Iterator[tuple[Entry, int]]:
        assert not record.exists()
        raise Ended

    with pytest.raises(Ended):
        restore(replace(server.backups, later=replace(server.backups.later, replay=replay)), "latest")
    assert not record.exists()


@pytest.mark.parametrize("damaged", [True, False])
def test_s4_a_restore_ends_soon_although_somebody_holds_the_database_up(
    backed: Backed, *, damaged: bool
) -> None:
    """The safety backup waits for that lock, in a thread, and is not waited for."""
    server, made = backed
    if damaged:
        image = server.backup_dir / made["file"]
        image.write_bytes(image.read_bytes()[:-1] + b"!")
    lock = (
        "LOCK TABLE issuers IN ACCESS EXCLUSIVE MODE" if server.postgres else "UPDATE issuers SET url = url"
    )
    with writing(server.database.engine) as holder:
        holder.exec_driver_sql(lock)
        restoring = server.start("restore", made["id"], "--yes")
        if not damaged:
            wait_until(lambda: list(server.backup_dir.glob(".work/*")), "the image is being loaded")
            restoring.terminate()
        _, said = restoring.communicate(timeout=PATIENCE)
        assert restoring.returncode == (5 if damaged else 143), said
        holder.rollback()
    assert issuer_names(server)
    assert server.obms("restore", made["id"], "--yes").code == (5 if damaged else 0)


@pytest.mark.parametrize("saved", [False, True])
def test_a_refused_restore_leaves_no_safety_backup(backed: Backed, *, saved: bool) -> None:
    server, made = backed
    before, record = images(server), server.backup_dir / "last_restore.json"
    storage = Announcing(Folder(server.backup_dir))

    def refuse(_copy: Database, name: str, _version: str) -> object:
        if saved:
            assert storage.published.wait(PATIENCE)
        raise BackupDamaged(name=name, detail="it cannot be migrated")

    with pytest.raises(BackupDamaged, match="cannot be migrated"):
        restore(replace(server.backups, storage=storage, migrate=refuse), made["id"])
    assert images(server) == before
    assert not record.exists()
    assert_nothing_is_left(server)
