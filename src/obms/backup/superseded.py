"""The old form of a backup that was encrypted anew: how it is removed, also after a kill."""

from itertools import groupby

from obms.backup import Backups
from obms.backup.catalog import Backup, read_catalog
from obms.backup.create import BEGUN_END
from obms.backup.manifest import MANIFEST_END, VERDICT_END
from obms.backup.storage import Storage


def sweep_superseded(backups: Backups) -> None:
    """Remove each old form whose new one stands and is no less proven; needs the lock."""
    for _, old in superseded(backups.storage, backups.trusted):
        retire(backups, old.file)


def superseded(storage: Storage, trusted: str | None) -> list[tuple[Backup, Backup]]:
    """Each new form with an old one that nobody needs: the new one stands, and is no less proven."""
    # An image that was never committed is no form.
    committed = (backup for backup in read_catalog(storage, trusted) if backup.state != "orphan")
    forms = (found for _, found in groupby(committed, key=lambda backup: backup.id))
    return [(newest, old) for newest, *older in forms for old in older if _replaces(newest, old)]


def retire(backups: Backups, file: str, *more: str) -> None:
    """Remove a backup, and `more` of it; a kill leaves it whole, or as something that the next run sweeps."""
    backups.storage.put(f".{file}{BEGUN_END}", iter(()))
    for name in (file + MANIFEST_END, file, file + VERDICT_END, *more, f".{file}{BEGUN_END}"):
        backups.storage.remove(name)


def _replaces(new: Backup, old: Backup) -> bool:
    if new.manifest is None or old.manifest is None or new.problem or new.signature != "ours":
        return False
    same = (new.manifest.id, new.manifest.raw_sha256) == (old.manifest.id, old.manifest.raw_sha256)
    return same and (new.proven or not old.proven)
