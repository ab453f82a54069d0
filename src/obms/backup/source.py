"""What a backup is named by: an id, a file name, a path to any file, or `latest`."""

from dataclasses import dataclass
from pathlib import Path

from obms.backup.catalog import find, read_manifest, read_verdict
from obms.backup.manifest import MANIFEST_END, Manifest, Verdict
from obms.backup.storage import Folder
from obms.backup.trust import NOTHING_MORE, Accepted
from obms.errors import BackupDamaged, BackupNotFound

LONGEST_NAME = 255  # bytes, of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is restored: a file of a folder, with its manifest if it has one."""

    file: str
    storage: Folder
    manifest: Manifest | None
    verdict: Verdict | None = None
    trusted: str | None = None

    @property
    def id(self) -> str:
        return self.manifest.id if self.manifest else self.file

    @property
    def proven(self) -> bool:
        verdict = self.verdict
        return verdict is not None and verdict.proven and verdict.signature_seen_by(self.trusted) == "ours"


def resolve(storage: Folder, name: str, trusted: str | None, *, accepted: Accepted = NOTHING_MORE) -> Source:
    """`latest`, an id, a file name in the folder, or a path to any file; else BackupNotFound."""
    path = Path(name)
    if len(path.name.encode()) > LONGEST_NAME:
        raise BackupNotFound(name=name)
    if path.is_file() and path.parent.resolve() != storage.path.resolve():
        return _source_of_file(Folder(path.parent), path.name, trusted)
    try:
        backup = find(storage, path.name if path.is_file() else name, trusted, accepted=accepted)
    except BackupNotFound:
        if path.is_file():
            return _source_of_file(storage, path.name, trusted)
        raise
    if backup.problem:
        raise BackupDamaged(name=backup.file, detail=backup.problem)
    return Source(
        file=backup.file,
        storage=storage,
        manifest=backup.manifest,
        verdict=backup.verdict,
        trusted=trusted,
    )


def _source_of_file(folder: Folder, file: str, trusted: str | None) -> Source:
    if file + MANIFEST_END not in set(folder.names(file)):
        return Source(file=file, storage=folder, manifest=None)
    manifest = read_manifest(folder, file)
    return Source(
        file=file,
        storage=folder,
        manifest=manifest,
        verdict=read_verdict(folder, manifest),
        trusted=trusted,
    )
