"""How the server stands: one line for each thing, with its light and the command that mends it."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from obms.backup import prune
from obms.backup.catalog import Backup, read_catalog
from obms.backup.counters import STORE, UNDELIVERED, read_counters
from obms.backup.drill_report import Drill, disbelieved, last_drill, seconds_as_text
from obms.backup.run import RECORD, read_record
from obms.backup.staleness import is_stale
from obms.errors import ObmsError
from obms.figures import size
from obms.looking import Finding, Light, Scene, worst

RUN = "`obms backup run`"
DRILL = "`obms drill`"
# A drill that is older says little of today's machine, data and network.
OLD_DRILL = timedelta(days=92)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How it stands; the figures are None where there are none yet."""

    light: Light
    findings: tuple[Finding, ...]
    newest_proven: str | None
    age_seconds: float | None
    next_run: datetime | None
    drill: Drill | None


def read_status(scene: Scene) -> Status:
    """Look at everything; what cannot be looked at is red."""
    catalog = read_catalog_if_it_can(scene)
    newest = _newest(scene, catalog)
    now = scene.backups.clock()
    findings = [found for look in LOOKS for found in take(look, scene, catalog)]
    made_at = newest.created_at if newest else None
    return Status(
        light=worst(findings),
        findings=tuple(findings),
        newest_proven=newest.id if newest else None,
        age_seconds=(now - made_at).total_seconds() if made_at else None,
        next_run=scene.schedule.next_after(now),
        drill=_read_drill(scene),
    )


Catalog = list[Backup]
Look = Callable[[Scene, Catalog], Iterator[Finding]]


def take(look: Look, scene: Scene, catalog: Catalog) -> list[Finding]:
    try:
        return list(look(scene, catalog))
    except ObmsError as error:
        return [Finding.of(look.__name__, error)]
    except OSError as error:
        detail = f"{error.filename}: {error.strerror}"
        return [Finding(name=look.__name__, light="red", detail=detail, mend="Check BACKUP_DIR.")]


def read_catalog_if_it_can(scene: Scene) -> Catalog:
    try:
        return list(read_catalog(scene.backups.storage, scene.backups.trusted))
    except ObmsError:
        return []  # the look at the backups tells why


def _read_drill(scene: Scene) -> Drill | None:
    try:
        return last_drill(scene.backups.folder, scene.backups.trusted)
    except ObmsError:
        return None  # the look at the drills tells why


def _newest(scene: Scene, catalog: Catalog) -> Backup | None:
    kind = scene.backups.database.kind
    return next((backup for backup in catalog if backup.proven and backup.database == kind), None)


def database(scene: Scene, _catalog: Catalog) -> Iterator[Finding]:
    facts = scene.backups.database.facts(digests=False)
    detail = f"{scene.backups.database.kind}, schema {facts.revision}, {sum(facts.rows.values())} rows"
    if facts.revision == scene.needed_revision:
        yield Finding(name="database", light="green", detail=detail)
    else:
        detail += f"; this program needs {scene.needed_revision}"
        yield Finding(name="database", light="red", detail=detail, mend="`obms migrate`")


def backups(scene: Scene, catalog: Catalog) -> Iterator[Finding]:
    list(scene.backups.storage.names())
    newest, now = _newest(scene, catalog), scene.backups.clock()
    stale = is_stale(newest.created_at if newest else None, now, scene.max_age)
    if newest is None or newest.created_at is None:
        yield Finding(name="newest proven backup", light="red", detail="there is none", mend=RUN)
        return
    age = seconds_as_text((now - newest.created_at).total_seconds())
    yield Finding(
        name="newest proven backup",
        light="red" if stale else "green",
        detail=f"{newest.id}, {age} old" + (f", and may be {scene.max_age}" if stale else ""),
        mend=RUN if stale else "",
    )


def orphans(_scene: Scene, catalog: Catalog) -> Iterator[Finding]:
    """They count for nothing, and are never removed: they may not be ours."""
    for backup in catalog:
        if backup.state == "orphan":
            detail = f"{backup.file} has no manifest, and counts for nothing"
            mend = "`obms restore PATH --dry-run` tells whether it is a backup; remove it if it is none"
            yield Finding(name="orphans", light="yellow", detail=detail, mend=mend)


def schedule(scene: Scene, _catalog: Catalog) -> Iterator[Finding]:
    due = scene.schedule.next_after(scene.backups.clock())
    if due is not None:
        yield Finding(name="next run", light="green", detail=f"{due:%Y-%m-%d %H:%M} UTC")
        return
    detail = "the schedule is off: something else has to start the backups"
    yield Finding(name="next run", light="yellow", detail=detail, mend="BACKUP_SCHEDULE='0 0 * * *'")


def last_run(scene: Scene, _catalog: Catalog) -> Iterator[Finding]:
    record = read_record(scene.backups.storage)
    if record is None:
        yield Finding(name="last run", light="yellow", detail="there was none yet", mend=RUN)
        return
    stages = ", ".join(f"{name} {took:.1f}" for name, took in record.stages.items())
    detail = f"{record.started_at:%Y-%m-%d %H:%M} UTC, {sum(record.stages.values()):.1f} s ({stages})"
    if record.ok:
        yield Finding(name="last run", light="green", detail=detail)
        return
    told = json.loads(b"".join(scene.backups.storage.get(RECORD)))
    detail += f", exit {record.exit_code}: {told.get('error')}"
    yield Finding(name="last run", light="red", detail=detail, mend=str(told.get("hint") or RUN))


def stores(scene: Scene, catalog: Catalog) -> Iterator[Finding]:
    """As the last run left them: they are not asked now."""
    counters = read_counters(scene.backups.folder)
    for store in scene.backups.stores:
        told: dict[str, Any] = counters.get(STORE + store.name, {})
        at = float(told.get("complete_at") or 0)
        owed = [one for one in catalog if one.proven and one.created_at and one.created_at.timestamp() > at]
        last = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC" if at else "never"
        detail = f"held every proven backup: {last}" + (f"; it lacks {len(owed)}" if owed else "")
        good = bool(told.get("ok")) and not owed
        light: Light = "green" if good else "red"
        yield Finding(name=f"store {store.name}", light=light, detail=detail, mend="" if good else RUN)
    if not scene.backups.stores.configured:
        detail = "there is none: the backups are lost with this machine"
        mend = "BACKUP_STORES=s3://bucket/prefix, or a folder on another machine"
        yield Finding(name="stores", light="yellow", detail=detail, mend=mend)


def retention(scene: Scene, catalog: Catalog) -> Iterator[Finding]:
    here = scene.backups
    place = prune.Place(storage=here.storage, policy=here.policy, trusted=here.trusted)
    held = prune.look(place, here.clock()).held
    if held:
        mend = "`obms backup prune --yes`, if that is right"
        yield Finding(name="retention", light="yellow", detail=f"held back: {held}", mend=mend)
        return
    yield Finding(name="retention", light="green", detail=f"{len(catalog)} backups are kept")


def drill(scene: Scene, _catalog: Catalog) -> Iterator[Finding]:
    here = scene.backups.folder, scene.backups.trusted
    for name in disbelieved(*here):
        detail = f"{name} is damaged, or not signed with this SECRET_KEY"
        yield Finding(name="drill report", light="red", detail=detail, mend=DRILL)
    last = last_drill(*here)
    due = scene.drills.next_after(scene.backups.clock())
    following = f"; the next one: {due:%Y-%m-%d %H:%M} UTC" if due else ""
    if last is None:
        yield Finding(name="last drill", light="yellow", detail=f"there was none yet{following}", mend=DRILL)
        return
    detail = f"{last.started_at:%Y-%m-%d %H:%M} UTC, RPO {seconds_as_text(last.rpo_seconds)}"
    detail += f", RTO {seconds_as_text(last.rto_seconds)}"
    old = scene.backups.clock() - last.started_at > OLD_DRILL
    light: Light = "red" if not last.ok else "yellow" if old else "green"
    detail += (f": {last.error}" if last.error else "") + following
    yield Finding(name="last drill", light=light, detail=detail, mend="" if light == "green" else DRILL)


def journal(scene: Scene, _catalog: Catalog) -> Iterator[Finding]:
    problem = scene.backups.later.journal.problem()
    if problem:
        mend = "Free some space, or give the server's user the right to write there."
        yield Finding(name="journal", light="red", detail=problem, mend=mend)
    else:
        yield Finding(name="journal", light="green", detail="revocations are written beside the backups")


def notices(scene: Scene, _catalog: Catalog) -> Iterator[Finding]:
    lost = read_counters(scene.backups.folder).get(UNDELIVERED, 0)
    detail = f"{lost} could not be delivered since counting began"
    if scene.told:
        yield Finding(name="notices", light="green", detail=detail)
    else:
        mend = "BACKUP_NOTIFY_URLS=https://..., and BACKUP_HEARTBEAT_URL"
        yield Finding(name="notices", light="yellow", detail=f"nobody is told; {detail}", mend=mend)


def disk(scene: Scene, catalog: Catalog) -> Iterator[Finding]:
    """A backup needs its stored bytes, its proof the plain ones, and a restore both once more."""
    folder = next(path for path in (scene.backups.folder, *scene.backups.folder.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    newest = _newest(scene, catalog)
    once = newest.manifest.bytes + newest.manifest.raw_bytes if newest and newest.manifest else 0
    detail = f"{size(free)} free, {size(once)} needed for the next backup and its proof"
    light: Light = "red" if free < once else "yellow" if free < 3 * once else "green"
    mend = "" if light == "green" else "Free some space, or set BACKUP_DIR to a larger disk."
    yield Finding(name="disk", light=light, detail=detail, mend=mend)


LOOKS: tuple[Look, ...] = (
    database,
    backups,
    orphans,
    schedule,
    last_run,
    stores,
    retention,
    drill,
    journal,
    notices,
    disk,
)
