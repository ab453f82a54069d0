"""The old form of a backup that was encrypted anew: how it is removed, also after a kill."""

from collections.abc import Iterator
from itertools import groupby

from obms.backup import Backups
from obms.backup.catalog import Backup, read_catalog
from obms.backup.create import BEGUN_END
from obms.backup.manifest import MANIFEST_END, VERDICT_END


def sweep_superseded(backups: Backups) -> None:
    """Remove each old form whose new one stands and is no less proven; needs the lock."""
    for forms in _by_id(backups):
        newest, *older = forms
        for old in older:
            if _replaces(newest, old):
                retire(backups, old.file)


def retire(backups: Backups, file: str) -> None:
    """Remove a backup; a kill leaves it whole, or as something that the next run sweeps."""
    backups.storage.put(f".{file}{BEGUN_END}", iter(()))
    for name in (file + MANIFEST_END, file, file + VERDICT_END, f".{file}{BEGUN_END}"):
        backups.storage.remove(name)


def _by_id(backups: Backups) -> Iterator[list[Backup]]:
    """The forms of each backup, newest first; only of those that have more than one."""
    catalog = read_catalog(backups.storage, backups.trusted)
    for _, forms in groupby(catalog, key=lambda backup: backup.id):
        found = list(forms)
        if len(found) > 1:
            yield found


def _replaces(new: Backup, old: Backup) -> bool:
    if new.manifest is None or old.manifest is None or new.problem or new.signature != "ours":
        return False
    same = (new.manifest.id, new.manifest.raw_sha256) == (old.manifest.id, old.manifest.raw_sha256)
    return same and (new.proven or not old.proven)
