"""What a backup is named by: an id, a file name, `latest`, a path to any file, or one of these in a store."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from obms.backup import Backups
from obms.backup.catalog import Backup, find, read_catalog, read_manifest, read_verdict
from obms.backup.manifest import MANIFEST_END, Manifest, Verdict
from obms.backup.storage import Folder, Storage
from obms.backup.stores import Store, Stores, join_name, split_name
from obms.backup.trust import NOTHING_MORE, Accepted
from obms.errors import BackupDamaged, BackupNotFound, StorageFailed

LONGEST_NAME = 255  # bytes, of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is restored: a file of a storage, with its manifest if it has one.

    `named_by_us` tells that it lies where backups are kept, under a name that this program gives:
    there it was published with a manifest.
    """

    file: str
    storage: Storage
    manifest: Manifest | None
    verdict: Verdict | None = None
    trusted: str | None = None
    named_by_us: bool = False

    @property
    def id(self) -> str:
        return self.manifest.id if self.manifest else self.file

    @property
    def made_at(self) -> datetime | None:
        return self.manifest.started_at if self.manifest else None

    @property
    def proven(self) -> bool:
        verdict = self.verdict
        return verdict is not None and verdict.proven and verdict.signature_seen_by(self.trusted) == "ours"


def resolve(backups: Backups, name: str, *, accepted: Accepted = NOTHING_MORE) -> Source:
    """`latest`, an id, a file name in the folder, a path to any file, or the URL of one in a store."""
    whole_name = name
    storage, name = storage_of(backups.storage, backups.stores, name)
    if storage is not backups.storage:
        with hints_for(whole_name):
            return _named_source(storage, name, backups.trusted, accepted)
    path = Path(name)
    if len(path.name.encode()) > LONGEST_NAME:
        raise BackupNotFound(name=name)
    if path.is_file():
        found = _place_of(backups, path.parent)
        if found is None:
            return _source_of_file(Folder(path.parent), path.name, backups.trusted)
        storage, name = found, path.name
    try:
        return _named_source(storage, name, backups.trusted, accepted)
    except BackupNotFound as error:
        if name != "latest" or list(read_catalog(storage, backups.trusted)):
            raise
        raise BackupNotFound(name=name, hint=_hint_of_stores(backups) or error.hint) from error


def _place_of(backups: Backups, folder: Path) -> Storage | None:
    """The storage that keeps backups in this folder: BACKUP_DIR, or a store; None for any other folder."""
    stores = (store.storage for store in backups.stores)
    places = {place.path.resolve(): place for place in stores if isinstance(place, Folder)}
    return {**places, backups.folder.resolve(): backups.storage}.get(folder.resolve())


def storage_of(local: Storage, stores: Stores, name: str) -> tuple[Storage, str]:
    """Where a backup lies, and its name there: `s3://bucket/prefix/latest` is `latest` of that store."""
    if "://" not in name:
        return local, name
    url, name = split_name(name)
    return stores.at(url).storage, name


def place_named(local: Storage, stores: Stores, name: str) -> tuple[Storage, str]:
    """As `storage_of`, and of a path to a file its folder."""
    path = Path(name)
    if "/" in name and len(path.name.encode()) <= LONGEST_NAME and path.is_file():
        return Folder(path.parent), path.name
    return storage_of(local, stores, name)


@contextmanager
def hints_for(name: str) -> Iterator[None]:
    """Have the commands in the hint of BackupNotFound look in the store that `name` names, if it does."""
    try:
        yield
    except BackupNotFound as error:
        if "://" not in name:
            raise
        store = shlex.quote(split_name(name)[0])
        hint = re.sub(r"`(obms backup [^`]*)`", lambda told: f"`{told[1]} --store {store}`", error.hint)
        raise BackupNotFound(**error.facts, hint=hint) from error


def _named_source(storage: Storage, name: str, trusted: str | None, accepted: Accepted) -> Source:
    try:
        backup = find(storage, name, trusted, accepted=accepted)
    except BackupNotFound:
        if name in set(storage.names(name)):
            return _source_of_file(storage, name, trusted)
        raise
    if backup.manifest is None or backup.stored is None:
        # One of the wrong size can be judged, and the verdict about it is kept.
        require_whole(storage, backup)
    return Source(
        file=backup.file,
        storage=storage,
        manifest=backup.manifest,
        verdict=backup.verdict,
        trusted=trusted,
        named_by_us=backup.named_at is not None,
    )


def require_whole(storage: Storage, backup: Backup) -> None:
    """BackupDamaged for one that is not, in the words of what found it."""
    if backup.manifest is None and backup.problem:
        read_manifest(storage, backup.file)
    if backup.problem:
        raise BackupDamaged(name=backup.file, detail=backup.problem)


def _source_of_file(storage: Storage, file: str, trusted: str | None) -> Source:
    if file + MANIFEST_END not in set(storage.names(file)):
        return Source(file=file, storage=storage, manifest=None)
    manifest = read_manifest(storage, file)
    return Source(
        file=file,
        storage=storage,
        manifest=manifest,
        verdict=read_verdict(storage, manifest),
        trusted=trusted,
    )


def _hint_of_stores(backups: Backups) -> str:
    """What to type where the folder has nothing, and the stores may have it."""
    told = [line for store in backups.stores if (line := _newest_of(store, backups.trusted))]
    return f"BACKUP_DIR holds none. {' '.join(told)}" if told else ""


def _newest_of(store: Store, trusted: str | None) -> str:
    try:
        found = next((backup for backup in read_catalog(store.storage, trusted) if backup.proven), None)
    except StorageFailed as error:
        return f"{store.name} may hold some, and cannot be read now ({error})."
    return f"`obms restore {join_name(store.name, 'latest')}` brings {found.id} back." if found else ""
