"""Old images are read again, one in a run, so that one that rots is found while another is whole."""

from contextlib import suppress
from dataclasses import replace

from obms.backup import Backups
from obms.backup.catalog import Backup, next_older
from obms.backup.counters import last_reread
from obms.backup.create import Meter
from obms.backup.manifest import Manifest
from obms.backup.pace import paced
from obms.backup.prove import prove
from obms.backup.storage import Storage
from obms.backup.stores import Store
from obms.backup.trust import Accepted
from obms.errors import BackupDamaged, BackupNotFound, IdentityMissing, ObmsError, Unreadable
from obms.observe import Event, no_event

HINT = "Have the disk looked at. It counts no longer; `obms backup list --store URL` tells of its copies."
HINT_OF_STORE = (
    "It counts no longer there, and is sent anew if BACKUP_DIR has it whole. "
    "Where the store lets nobody replace it, look for a whole one elsewhere."
)


def reread(backups: Backups, known: set[str], store: Store | None = None) -> ObmsError | None:
    """Read the image whose turn it is, here or in a store; what is wrong with it, which is told once.

    In turn, each after the next newer one, so that none waits for those to come. Those `known` to be
    whole, as they were written in this run, are passed over, and it is made one of them. Only what is
    ours is read. What is damaged is judged bad: it counts no longer, and is owed again.
    """
    storage = store.storage if store else backups.storage
    name = store.name if store else None
    backup = next_older(storage, backups.trusted, last_reread(backups.folder, name), known)
    if backup is None:
        return None
    error: ObmsError | None = None
    # Its turn is over before it is read: one that takes longer than a run may must not hold up the others.
    backups.notify(Event(name="backup.rereading", facts={"store": name, "file": backup.file}))
    try:
        if _is_to_be_read(backups, backup):
            error = _damage(backups, storage, backup, store)
    except (BackupNotFound, Unreadable) as failed:
        error = failed
    known.add(backup.file)
    facts = {"store": name, "file": backup.file, "error": str(error) if error else None}
    backups.notify(Event(name="backup.reread", ok=error is None, facts=facts))
    return error


def _is_to_be_read(backups: Backups, backup: Backup) -> bool:
    """Whether it is ours, and not known to be bad."""
    if backup.signature is None or (backup.verdict is not None and backup.verdict.outcome == "bad"):
        return False
    return Accepted(not_signed=backups.trusted is None).accepts(backup.signature)


def _damage(backups: Backups, storage: Storage, backup: Backup, store: Store | None) -> BackupDamaged | None:
    """What is wrong with an image that is read; it is read twice before it is called bad."""
    manifest, rate = backup.manifest, store.options.rate_limit if store else None
    assert manifest is not None
    if is_whole(storage, manifest, rate):
        return None
    with suppress(IdentityMissing):  # then its bytes were those of the manifest
        there = replace(backups, storage=storage, notify=no_event)
        verdict = prove(there, manifest, level="intact", must_keep=False)
        if verdict.outcome == "unknown":
            reason = next(check.detail for check in verdict.checks if not check.ok)
            raise Unreadable(detail=f"{backup.file} could not be read again: {reason}")
        if verdict.outcome == "bad":
            where = f"in {store.name}" if store else "here"
            detail = f"read again {where}, it is not what its manifest says"
            if not verdict.checks[-1].ok and verdict.checks[-1].name == "kept":
                detail += f"; {verdict.checks[-1].detail.rstrip('.')}"
            return BackupDamaged(name=backup.file, detail=detail, hint=HINT_OF_STORE if store else HINT)
    return None


def is_whole(storage: Storage, manifest: Manifest, rate: int | None) -> bool:
    """Whether what the storage gives back is what the manifest says: its own word for it is not asked."""
    if storage.size(manifest.file) != manifest.bytes:
        return False
    meter = Meter()
    for _ in paced(meter.measure(storage.get(manifest.file)), rate):
        continue
    return (meter.bytes, meter.sha256) == (manifest.bytes, manifest.sha256)
