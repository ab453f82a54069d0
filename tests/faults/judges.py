"""What a killed command may leave behind, and what the next one makes of it; complaints, one line each."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from obms.backup.catalog import Backup, read_catalog
from obms.backup.undo import SAFETY, last_safety_backup
from obms.databases import Facts
from obms.databases.sqlite import MAGIC as HEAD
from obms.databases.sqlite import Sqlite
from obms.databases.sqlite_snapshot import beside
from tests.deployment import Deployment
from tests.faults.fork_server import Ending, ForkServer
from tests.faults.scene import Scene, contents, name_of

RECORDS = ("last_run.json", "last_restore.json", "counters.json", "last_prune.json", ".lock")
ALLOWED_BESIDE = ("openbadges.db", "openbadges.db-wal", "openbadges.db-shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """How things stood before the shot, and what the command would have made of the database.

    `old` is None where no database could be read, `damaged` is then what there was to be lost.
    """

    scene: Scene
    forking: ForkServer
    backups: Mapping[str, bytes]
    old: Facts | None
    new: Facts
    damaged: Facts | None = None

    def next(self, made: Deployment, *arguments: str) -> Ending:
        """Run a command to its end, in a process of its own."""
        return self.forking.run(arguments, made.environment)


def judge_backup(made: Deployment, known: Known) -> Iterator[str]:
    """After a killed `backup run`."""
    assert known.old is not None
    yield from _stands(made, (known.old,))
    listed = [backup for backup in catalog(made) if backup.proven and backup.file not in known.backups]
    yield from _untouched(made, known)
    answer = known.next(made, "backup", "run", "--json")
    if answer.status or not answer.json["proven"]:
        yield f"the next run ended with {answer.status}: {answer.said.strip()}"
        return
    yield from _tidy(made, known)
    yield from _untouched(made, known)
    yield from _stands(made, (known.old,))
    for backup in listed:
        if known.next(made, "backup", "verify", backup.id).status:
            yield f"{backup.id} was listed as proven, and does not verify"
    kept = catalog(made)
    if len(kept) > len([name for name in known.backups if name.endswith(".gz")]) + 2:
        yield f"too many backups: {[backup.id for backup in kept]}"
    if not kept or kept[0].file != answer.json["file"]:
        yield f"the newest is not that of the last run: {[backup.id for backup in kept]}"


def judge_restore(made: Deployment, known: Known) -> Iterator[str]:
    """After a killed `restore latest`."""
    yield from _old_or_new(made, known)
    yield from _untouched(made, known)
    answer = known.next(made, "restore", "latest", "--yes", "--json")
    if answer.status:
        yield f"the second try ended with {answer.status}: {answer.said.strip()}"
        return
    yield from _stands(made, (known.new,))
    yield from _tidy(made, known)
    yield from _untouched(made, known)
    yield from _nothing_lost(made, known)


def catalog(made: Deployment) -> list[Backup]:
    return list(read_catalog(made.backups.storage, made.backups.trusted))


def _old_or_new(made: Deployment, known: Known) -> Iterator[str]:
    if not made.database.exists():
        if known.old is not None:
            yield "the live database is gone"
        yield from _nothing_lost(made, known)
        return
    found = made.database.facts()
    if found == known.new and found != known.old:
        yield from _way_back(made, known)
    elif found != known.old:
        yield f"the live database is neither the old one nor the new one: {found.rows}"
    yield from made.database.problems()


def _nothing_lost(made: Deployment, known: Known) -> Iterator[str]:
    """What was damaged is there as a whole, where it was or set aside: mended, it holds what it held."""
    if known.damaged is None:
        return
    data = made.folder / "data"
    mains = [name for name in contents(data) if name[0] != "." and not name.endswith(("-wal", "-shm"))]
    if not any(_mended(data / name, made.folder / "mended") == known.damaged for name in mains):
        sizes = sorted((name, len(content)) for name, content in contents(data).items())
        yield f"the damaged database is not whole: {sizes}"


def _mended(path: Path, folder: Path) -> Facts | None:
    """What a copy of the file and its log holds once its head is mended; None where it cannot be read."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    copy = folder / "copy.db"
    for end in ("", "-wal"):
        if beside(path, end).exists():
            shutil.copy(beside(path, end), beside(copy, end))
    with copy.open("r+b") as file:
        file.write(HEAD)
    database = Sqlite(copy, work=folder)
    found = database.facts() if database.exists() else None
    database.engine.dispose()
    return found


def _way_back(made: Deployment, known: Known) -> Iterator[str]:
    """The switch is done: what it replaced is in a safety backup, and `restore --undo` knows of it."""
    if known.old is None:
        return
    safe = [b for b in catalog(made) if b.manifest is not None and b.manifest.reason == SAFETY]
    if len(safe) != 1:
        yield f"the safety backups are {[b.id for b in safe]}"
        return
    manifest = safe[0].manifest
    assert manifest is not None
    if manifest.rows != known.old.rows or manifest.digests not in ({}, known.old.digests):
        yield "the safety backup is not of the old database"
    if "last_restore.json" not in contents(made.backup_dir):
        yield "`restore --undo` does not know of the restore that was made"
    elif last_safety_backup(made.backups) != manifest.id:
        yield "`restore --undo` would bring back another database than the one that was replaced"


def _stands(made: Deployment, allowed: tuple[Facts, ...]) -> Iterator[str]:
    """The live database is one of these, and whole."""
    if not made.database.exists():
        yield "the live database is gone"
        return
    found = made.database.facts()
    if found not in allowed:
        yield f"the live database is another: {found.rows}"
    yield from made.database.problems()


def _untouched(made: Deployment, known: Known) -> Iterator[str]:
    found = contents(made.backup_dir)
    for name, data in known.backups.items():
        if name not in RECORDS and found.get(name) != data:
            yield f"{name} was changed"


def _tidy(made: Deployment, known: Known) -> Iterator[str]:
    """Nothing of the killed one is left, and everything that is listed has its meaning."""
    names = set(contents(made.backup_dir))
    if left := [name for name in names if name.startswith(".") and name != ".lock"]:
        yield f"left in the backup folder: {left}"
    if left := [path.name for path in (made.backup_dir / ".work").glob("*")]:
        yield f"left in the work folder: {left}"
    beside = contents(made.folder / "data")
    if left := [name for name in beside if name not in ALLOWED_BESIDE and ".set-aside-" not in name]:
        yield f"left beside the database: {left}"
    name = name_of(made) if made.postgres is not None else ""
    if left := [found for found in known.scene.databases_of(made) if found not in (name, f"{name}_previous")]:
        yield f"left databases: {left}"
    for backup in catalog(made):
        if backup.state not in ("proven", "unproven") or (backup.verdict and not backup.proven):
            yield f"{backup.file} is {backup.state}: {backup.problem}"
