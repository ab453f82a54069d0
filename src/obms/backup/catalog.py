"""The catalogue: it is the manifests that lie beside the images, read anew each time."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Literal

from obms.backup.manifest import MANIFEST_END, VERDICT_END, Manifest, Verdict
from obms.backup.storage import Storage
from obms.errors import BackupDamaged, BackupNotFound

PREFIXES = {"sqlite": "sqlite_backup_", "postgresql": "postgres_backup_"}
ENDINGS = {"sqlite": ".db", "postgresql": ".sql"}
STAMP = "%Y-%m-%d_%H-%M-%S"
IMAGE = re.compile(r"(?P<id>(?P<prefix>sqlite|postgres)_backup_(?P<stamp>[\d_-]+))\.(db|sql)(\.gz)?(\.age)?")
KINDS = {"sqlite": "sqlite", "postgres": "postgresql"}

State = Literal["proven", "unproven", "bad", "damaged", "orphan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """One backup as the files tell it. Without a manifest it is an orphan, or damaged, and never counts."""

    id: str
    file: str
    database: str
    created_at: datetime | None
    manifest: Manifest | None = None
    verdict: Verdict | None = None
    problem: str | None = None

    @property
    def state(self) -> State:
        if self.manifest is None:
            return "damaged" if self.problem else "orphan"
        if self.problem:
            return "damaged"
        if self.verdict is None or self.verdict.outcome == "unknown":
            return "unproven"
        if self.verdict.outcome == "bad":
            return "bad"
        return "proven" if self.verdict.proven else "unproven"

    @property
    def proven(self) -> bool:
        return self.state == "proven"


def read_catalog(storage: Storage) -> Iterator[Backup]:
    """Every backup, newest first, read as it is asked for; what is damaged or lacks its manifest is named."""
    names = set(storage.names())
    images = {name for name in names if IMAGE.fullmatch(name)}
    images |= {name.removesuffix(MANIFEST_END) for name in names if _is_manifest(name)}
    for name in sorted(images, key=_stamp, reverse=True):
        yield _read_backup(storage, name, names)


def _stamp(file: str) -> tuple[str, str]:
    match = IMAGE.fullmatch(file)
    assert match is not None
    return match["stamp"], file


def _is_manifest(name: str) -> bool:
    return (
        name.endswith(MANIFEST_END)
        and not name.endswith(VERDICT_END)
        and IMAGE.fullmatch(name.removesuffix(MANIFEST_END)) is not None
    )


def _read_backup(storage: Storage, file: str, names: set[str]) -> Backup:
    match = IMAGE.fullmatch(file)
    assert match is not None
    plain = Backup(
        id=match["id"], file=file, database=KINDS[match["prefix"]], created_at=_time_of(match["stamp"])
    )
    if file + MANIFEST_END not in names:
        return plain
    try:
        manifest = read_manifest(storage, file)
    except BackupDamaged as error:
        return replace(plain, problem=str(error))
    return replace(
        plain,
        id=manifest.id,
        created_at=manifest.started_at,
        manifest=manifest,
        verdict=read_verdict(storage, manifest) if file + VERDICT_END in names else None,
        problem=None if file in names else "its image is missing",
    )


def _time_of(stamp: str) -> datetime | None:
    try:
        return datetime.strptime(stamp, STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


def read_manifest(storage: Storage, file: str) -> Manifest:
    """The manifest of an image; BackupDamaged when it was changed or belongs to another image."""
    manifest = Manifest.from_bytes(file + MANIFEST_END, b"".join(storage.get(file + MANIFEST_END)))
    if manifest.file != file:
        raise BackupDamaged(name=file, detail=f"its manifest is that of {manifest.file}")
    return manifest


def read_verdict(storage: Storage, manifest: Manifest) -> Verdict | None:
    """The verdict about this very manifest; one that is damaged or about another is none."""
    name = manifest.file + VERDICT_END
    try:
        verdict = Verdict.from_bytes(name, b"".join(storage.get(name)))
    except (BackupDamaged, BackupNotFound):
        return None
    return verdict if verdict.manifest == manifest.fingerprint else None


def find(storage: Storage, name: str) -> Backup:
    """The backup of this id or file name, or the newest proven one for `latest`; else BackupNotFound."""
    catalog = list(read_catalog(storage))
    wanted = (backup for backup in catalog if name in (backup.id, backup.file))
    if name == "latest":
        wanted = (backup for backup in catalog if backup.proven)
    found = next(wanted, None)
    if found is not None:
        return found
    if name == "latest" and catalog:
        hint = f"None of {len(catalog)} is proven. `obms backup verify {catalog[0].id}` judges the newest."
        raise BackupNotFound(name=name, hint=hint)
    raise BackupNotFound(name=name)


def free_name(storage: Storage, kind: str, now: datetime, ending: str) -> tuple[str, str]:
    """The id and the file name of a new backup: of this second, or of the first one after the newest.

    So names never collide, and their order is that in which they were made, whatever the clock does.
    """
    stamps = (IMAGE.match(other) for other in storage.names())
    times = [found for match in stamps if match and (found := _time_of(match["stamp"]))]
    times = [time for time in times if time.year < MAXYEAR]  # nothing comes after the end of the calendar
    moment = max([now.replace(microsecond=0), *(time + timedelta(seconds=1) for time in times)])
    name = f"{PREFIXES[kind]}{moment.astimezone(UTC).strftime(STAMP)}"
    return name, f"{name}{ENDINGS[kind]}{ending}"
