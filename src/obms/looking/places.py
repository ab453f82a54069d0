"""What the folders and disks allow: whether a run may read and write there, and whether there is room."""

import os
import pwd
import shlex
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from obms.backup import counters, drill_report, journal
from obms.backup.catalog import Backup
from obms.backup.journal import LEAST_ROOM
from obms.backup.prove import room_to_load
from obms.errors import ObmsError
from obms.figures import size
from obms.looking import Catalog, Finding, Light, Scene

LOCK = ".lock"
# Written where they are; all else is replaced, for which the right to write into the folder is enough.
WRITTEN_IN_PLACE = (LOCK, counters.FILE)


def newest_proven(scene: Scene, catalog: Catalog) -> Backup | None:
    """The newest that counts, of the kind of the live database."""
    kind = scene.backups.database.kind
    return next((backup for backup in catalog if backup.proven and backup.database == kind), None)


def access(scene: Scene) -> Iterator[Finding]:
    """Whether this user may read and write what a run reads and writes."""
    folder, user = scene.backups.folder, _user()
    if not folder.exists():
        parent = _nearest(folder)
        if not _allows(parent, os.W_OK | os.X_OK):
            detail = f"{user} may not make {folder}: {parent} may not be written"
            mend = f"`install -d -o {user} {shlex.quote(str(folder))}`"
            yield Finding(name="access", light="red", detail=detail, mend=mend)
        return
    refused = list(_refused(scene))
    if not refused:
        yield Finding(name="access", light="green", detail=f"{user} may read and write {folder}")
        return
    others = f", nor {len(refused) - 1} more" if refused[1:] else ""
    detail = f"{refused[0]} may not be used by {user}{others}: no run ends well"
    yield Finding(name="access", light="red", detail=detail, mend=_mend(folder, refused[0], user))


def _refused(scene: Scene) -> Iterator[Path]:
    """What a run uses and this user may not: folders as a whole, files to be read or added to."""
    top, work = scene.backups.folder, scene.backups.work
    # What a killed run has left in the work folder is removed by the next one.
    for folder in (top, work, *sorted(work.glob("*/")), top / journal.FOLDER, top / drill_report.FOLDER):
        if not folder.is_dir():
            continue
        if not _allows(folder, os.R_OK | os.W_OK | os.X_OK):
            yield folder
            continue
        for path in sorted(folder.iterdir()):
            added_to = path.name in WRITTEN_IN_PLACE or folder.name == journal.FOLDER
            if path.is_file() and not _allows(path, os.R_OK | (os.W_OK if added_to else 0)):
                yield path


def _allows(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)


def _mend(folder: Path, refused: Path, user: str) -> str:
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"Mount {folder} so that it can be written."
    if refused.stat().st_uid == os.geteuid():
        return f"`chmod -R u+rwX {shlex.quote(str(folder))}`"
    return f"`chown -R {user} {shlex.quote(str(folder))}`"


def _user() -> str:
    """As `chown` takes it: in a container a user may have no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def disk(scene: Scene, catalog: Catalog) -> Iterator[Finding]:
    """A backup needs its stored bytes, its proof the plain ones, and a restore both once more.

    Before there is a proven one nobody knows how small the database packs.
    """
    newest, live_bytes = newest_proven(scene, catalog), _live_bytes(scene)
    stored = plain = live_bytes
    if newest is not None and newest.manifest is not None:
        stored, plain = newest.manifest.bytes, max(plain, newest.manifest.raw_bytes)
    once = plain + stored
    free = shutil.disk_usage(_nearest(scene.backups.folder)).free
    detail = f"{size(free)} free, {size(once)} needed for the next backup and its proof"
    light: Light = "red" if _lacks(free, once) else "yellow" if free < 3 * once else "green"
    mend = "" if light == "green" else "Free some space, or set BACKUP_DIR to a larger disk."
    yield Finding(name="disk", light=light, detail=detail, mend=mend)
    live = scene.backups.database.folder
    if live is not None:
        yield _disk_of_database(live, room_to_load(plain, live_bytes))


def _disk_of_database(folder: Path, needed: int) -> Finding:
    free = shutil.disk_usage(folder).free
    detail = f"{size(free)} free in {folder}, {size(needed)} needed by a restore"
    lacks = _lacks(free, needed)
    mend = "Free some space there, or set SQLITE_FILE to a larger disk." if lacks else ""
    return Finding(name="disk of the database", light="red" if lacks else "green", detail=detail, mend=mend)


def _lacks(free: int, needed: int) -> bool:
    return free < max(needed, LEAST_ROOM)


def _live_bytes(scene: Scene) -> int:
    with suppress(ObmsError, OSError):  # the look at the database tells why
        return scene.backups.database.size()
    return 0


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
