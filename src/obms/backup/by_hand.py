"""What an operator does to what is kept: look, remove, pin."""

from dataclasses import replace
from pathlib import Path

from obms.backup import Backups
from obms.backup.catalog import Backup, find
from obms.backup.copies import lacked
from obms.backup.create import Meter
from obms.backup.forget import place_of
from obms.backup.lock import locked
from obms.backup.pins import Pin, write_pin
from obms.backup.prune import Outlook, Place, Retained, look, retain
from obms.backup.stores import Store
from obms.errors import BackupDamaged, StorageFailed

UNREAD = "`--also-uncopied` does not ask the stores."


def foresee(backups: Backups, store: Store | None = None, *, also_uncopied: bool = False) -> Outlook:
    """What `prune` would do in the backup folder, or in a store."""
    return look(_place(backups, store, also_uncopied=also_uncopied), backups.clock())


def prune(backups: Backups, store: Store | None = None, *, also_uncopied: bool = False) -> Retained:
    """Apply the policy now, by an operator's word, which releases what is held back.

    BackupDamaged, with nothing removed, if the newest proven one is not what it was. What a store lacks
    stays in the backup folder, unless it is said that it may go uncopied.
    """
    with locked(backups):
        place = _place(backups, store, also_uncopied=also_uncopied)
        outlook = look(place, backups.clock())
        if outlook.plan.remove:
            _require_intact(place, outlook)
        return retain(place, backups.clock(), backups.notify, confirmed=True)


def _place(backups: Backups, store: Store | None, *, also_uncopied: bool) -> Place:
    if store is not None:
        return place_of(backups, store)
    place = Place(storage=backups.storage, policy=backups.policy, trusted=backups.trusted)
    if also_uncopied:
        return place
    try:
        missing = lacked(backups)
    except StorageFailed as error:
        raise StorageFailed(detail=f"what the stores lack is not known: {error}", hint=UNREAD) from error
    return replace(place, also={id: f"{name} has no copy of it yet" for id, name in missing.items()})


def _require_intact(place: Place, outlook: Outlook) -> None:
    """Those that stand for all that goes, the newest proven ones, are read whole before it goes."""
    for backup in outlook.shelf.newest.values():
        assert backup.manifest is not None
        meter = Meter()
        for _ in meter.measure(place.storage.get(backup.file)):
            continue
        if (meter.bytes, meter.sha256) != (backup.manifest.bytes, backup.manifest.sha256):
            raise BackupDamaged(
                name=backup.file,
                detail="the newest proven one is not what its manifest says",
                hint=f"Nothing was removed. `obms backup verify {backup.id}` judges it again.",
            )


def pin(backups: Backups, name: str, reason: str = "") -> Backup:
    """Keep a backup until it is unpinned; a second pin replaces the reason. The next run pins its copies."""
    with locked(backups):
        backup = _find_here(backups, name)
        write_pin(backups.storage, backup.pin_name, Pin(reason=reason, pinned_at=backups.clock()))
        return find(backups.storage, backup.file, backups.trusted)


def unpin(backups: Backups, name: str) -> Backup:
    """Leave a backup to the policy again; one that is not pinned stays as it is."""
    with locked(backups):
        backup = _find_here(backups, name)
        backups.storage.remove(backup.pin_name)
        return find(backups.storage, backup.file, backups.trusted)


def _find_here(backups: Backups, name: str) -> Backup:
    """A backup of the folder, which may be named by its path."""
    path = Path(name)
    here = "/" in name and path.parent.resolve() == backups.folder.resolve()
    return find(backups.storage, path.name if here else name, backups.trusted)
