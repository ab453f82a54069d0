"""What about the server is unsafe though it works today, each with what mends it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

from pysqlite3 import dbapi2 as sqlite3
from sqlalchemy.exc import SQLAlchemyError

from obms.backup.catalog import read_catalog
from obms.backup.recipients import unproven_recipients
from obms.errors import ObmsError
from obms.looking import Finding, Light, Scene, files, places, status
from obms.looking.live import keys, mend_of_schema
from obms.looking.places import access

# 3.7.0 to 3.51.2 may lose committed writes when the write-ahead log is begun anew.
FIXED_SQLITE = (3, 51, 3)
# Clocks of machines that are set by the network differ by less.
CLOCK_DIFFERENCE = timedelta(minutes=5)

Look = Callable[[Scene], Iterator[Finding]]


def examine(scene: Scene) -> list[Finding]:
    """Look at everything; what cannot be looked at is red."""
    return [found for look in LOOKS for found in _try(look, scene)]


def _try(look: Look, scene: Scene) -> list[Finding]:
    try:
        return list(look(scene))
    except ObmsError as error:
        return [Finding.of(look.__name__, error)]
    except SQLAlchemyError as error:
        detail = str(error).splitlines()[0]
        return [Finding(name=look.__name__, light="red", detail=detail, mend="`obms migrate`")]
    except OSError as error:
        detail = f"{error.filename}: {error.strerror}"
        return [Finding(name=look.__name__, light="red", detail=detail, mend="Check BACKUP_DIR.")]


def _green_if(name: str, *, good: bool, light: Light, detail: str, mend: str) -> Finding:
    if good:
        return Finding(name=name, light="green", detail=detail)
    return Finding(name=name, light=light, detail=detail, mend=mend)


def sqlite(scene: Scene) -> Iterator[Finding]:
    if scene.backups.database.kind == "sqlite":
        yield judge_sqlite(sqlite3.sqlite_version)


def judge_sqlite(version: str) -> Finding:
    """Whether this version of SQLite is safe to write with."""
    good = tuple(map(int, version.split("."))) >= FIXED_SQLITE
    detail = f"version {version}" + ("" if good else ": it may corrupt a database in WAL mode")
    return _green_if(
        "SQLite", good=good, light="red", detail=detail, mend="`pip install --upgrade pysqlite3`"
    )


def tools(scene: Scene) -> Iterator[Finding]:
    scene.backups.database.check_tools()
    yield Finding(name="tools", light="green", detail="what backing up needs is there, and new enough")


def rights(scene: Scene) -> Iterator[Finding]:
    """What a proof and a restore will need of the database's role."""
    scene.backups.database.check_rights()
    yield Finding(name="rights", light="green", detail="it may be proven and restored")


def schema(scene: Scene) -> Iterator[Finding]:
    found = scene.backups.database.facts(digests=False).revision
    detail = f"the database has {found}, and this program needs {scene.needed_revision}"
    mend = mend_of_schema(scene, found, status.read_catalog_if_it_can(scene))
    yield _green_if("schema", good=found == scene.needed_revision, light="red", detail=detail, mend=mend)


def escrow(scene: Scene) -> Iterator[Finding]:
    for public in unproven_recipients(scene.backups):
        yield Finding(
            name="escrow",
            light="yellow",
            detail=f"the private key of {public} was never seen to open a backup: it may be lost",
            mend="`BACKUP_AGE_IDENTITY_FILE=<its file> obms backup verify latest`",
        )


def clock(scene: Scene) -> Iterator[Finding]:
    """Whether the newest backup is from the future: then it was wrong, or is."""
    limit = scene.backups.clock() + CLOCK_DIFFERENCE
    made = (backup.created_at for backup in read_catalog(scene.backups.storage, scene.backups.trusted))
    newest = max((moment for moment in made if moment), default=None)
    good = newest is None or newest <= limit
    told = f"{newest:%Y-%m-%d %H:%M}" if newest else "none"
    detail = f"now {scene.backups.clock():%Y-%m-%d %H:%M} UTC, the newest backup {told}"
    yield _green_if("clock", good=good, light="red", detail=detail, mend=status.SET_CLOCK)


def backups(scene: Scene) -> Iterator[Finding]:
    catalog = list(read_catalog(scene.backups.storage, scene.backups.trusted))
    for backup in catalog:
        command = f"obms backup verify {backup.id}"
        mend = f"`{command}`"
        if backup.state in ("bad", "damaged"):
            detail = f"{backup.id} is {backup.state}" + (f": {backup.problem}" if backup.problem else "")
            yield Finding(name="backups", light="red", detail=detail, mend=f"{mend} says why")
        elif backup.manifest is not None and not backup.ours:
            detail = f"{backup.id} is not signed with this SECRET_KEY"
            mend = f"`{command} --accept-unsigned`"
            if backup.signature == "other":  # whose keys do not open here, so that it cannot be proven
                mend = (
                    f"{status.SET_KEY}, or if that is lost: `{command} --level restorable --accept-other-key`"
                )
            yield Finding(name="backups", light="yellow", detail=detail, mend=mend)
        elif backup.manifest is not None and not backup.proven:
            detail = f"{backup.id} is not proven, and does not count"
            yield Finding(name="backups", light="yellow", detail=detail, mend=mend)
    if not any(backup.proven for backup in catalog):
        yield replace(status.none_proven(catalog), name="backups")


def stores(scene: Scene) -> Iterator[Finding]:
    """Each is asked for its names."""
    for store in scene.backups.stores:
        try:
            list(store.storage.names())
        except ObmsError as error:
            yield Finding.of(f"store {store.name}", error)
        else:
            yield Finding(name=f"store {store.name}", light="green", detail="it answers")
    if not scene.backups.stores.configured:
        detail = "there is none: the backups are lost with this machine"
        yield Finding(name="stores", light="yellow", detail=detail, mend="BACKUP_STORES=s3://bucket/prefix")


def disks(scene: Scene) -> Iterator[Finding]:
    live, folder = scene.backups.database.folder, scene.backups.folder
    if live is None or not folder.is_dir() or live.stat().st_dev != folder.stat().st_dev:
        return
    good = bool(scene.backups.stores.configured)
    detail = "the database and BACKUP_DIR are on one disk" + (", and there is a store" if good else "")
    mend = "Set BACKUP_DIR to another disk, or BACKUP_STORES."
    yield _green_if("disks", good=good, light="yellow", detail=detail, mend=mend)


def disk(scene: Scene) -> Iterator[Finding]:
    return places.disk(scene, status.read_catalog_if_it_can(scene))


def notices(scene: Scene) -> Iterator[Finding]:
    """Whether each place can be told at all; what is told there is for `status`."""
    if told := scene.places():
        yield Finding(name="notices", light="green", detail=f"{', '.join(told)} can be told")


def schedule(scene: Scene) -> Iterator[Finding]:
    now = scene.backups.clock()
    due, drill = scene.schedule.next_after(now), scene.drills.next_after(now)
    if due is None:
        detail = "BACKUP_SCHEDULE is off: something else has to start `obms backup run`"
        yield Finding(name="schedule", light="yellow", detail=detail, mend="BACKUP_SCHEDULE='0 0 * * *'")
    if drill is None:
        detail = "DRILL_SCHEDULE is off: nobody knows whether the server would be back"
        yield Finding(name="drills", light="yellow", detail=detail, mend="DRILL_SCHEDULE='0 4 * * 0'")


def orphans(scene: Scene) -> Iterator[Finding]:
    yield from status.orphans(scene, list(read_catalog(scene.backups.storage, scene.backups.trusted)))


def names(scene: Scene) -> Iterator[Finding]:
    """A setting whose name is misspelt is passed over: nobody can know whose it is."""
    for name, setting in sorted(scene.misspelt().items()):
        detail = f"{name} is no setting, and does nothing"
        yield Finding(name="settings", light="yellow", detail=detail, mend=f"Call it {setting}.")


LOOKS: tuple[Look, ...] = (
    sqlite,
    tools,
    rights,
    schema,
    keys,
    access,
    escrow,
    clock,
    backups,
    stores,
    disks,
    disk,
    notices,
    schedule,
    names,
    orphans,
    files.permissions,
    files.secrets,
    files.metrics,
)
