"""How the server stands: one line for each thing, with its light and the command that mends it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from obms.backup import prune
from obms.backup.catalog import read_catalog
from obms.backup.counters import JOURNAL, NOTICE, STORE, UNDELIVERED, journal_held, read_counters
from obms.backup.drill_report import Drill, disbelieved, last_drill, seconds_as_text
from obms.backup.keeper import SCHEDULE, is_held
from obms.backup.run import RECORD, read_record
from obms.backup.shipping import bytes_behind
from obms.backup.staleness import is_stale
from obms.backup.trust import Accepted
from obms.errors import ObmsError
from obms.figures import size
from obms.looking import Catalog, Finding, Light, Scene, live, places, worst
from obms.looking.places import newest_proven

NEWEST = "newest proven backup"
RUN = "`obms backup run`"
DRILL = "`obms drill`"
SET_KEY = "Set SECRET_KEY (or SECRET_KEY_FILE) to the key of that server"
SET_CLOCK = "`timedatectl set-ntp true`"
# A drill that is older says little of today's machine, data and network.
OLD_DRILL = timedelta(days=92)
# A run that something else starts, cron say, may be so late: BACKUP_MAX_AGE gives a daily one as long.
LATE = timedelta(hours=2)


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
    newest = newest_proven(scene, catalog)
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


def access(scene: Scene, _catalog: Catalog) -> Iterator[Finding]:
    return places.access(scene)


def database(scene: Scene, catalog: Catalog) -> Iterator[Finding]:
    facts = scene.backups.database.facts(digests=False)
    detail = f"{scene.backups.database.kind}, schema {facts.revision}, {sum(facts.rows.values())} rows"
    if facts.revision == scene.needed_revision:
        yield Finding(name="database", light="green", detail=detail)
    else:
        detail += f"; this program needs {scene.needed_revision}"
        mend = live.mend_of_schema(scene, facts.revision, catalog)
        yield Finding(name="database", light="red", detail=detail, mend=mend)


def keys(scene: Scene, _catalog: Catalog) -> Iterator[Finding]:
    return live.keys(scene)


def backups(scene: Scene, catalog: Catalog) -> Iterator[Finding]:
    scene.backups.storage.sizes()
    newest, now = newest_proven(scene, catalog), scene.backups.clock()
    if newest is None or newest.created_at is None:
        yield none_proven(catalog)
        return
    stale = is_stale(newest.created_at, now, scene.max_age)
    detail, mend = f"{newest.id}, {_age(now - newest.created_at)}", RUN
    if newest.created_at > now:
        mend = SET_CLOCK
    elif stale:
        detail += f", and may be {scene.max_age.total_seconds() / 3600:g} h"
    light: Light = "red" if stale else "green"
    yield Finding(name=NEWEST, light=light, detail=detail, mend=mend if stale else "")


def _age(age: timedelta) -> str:
    if age < timedelta():
        return f"made {seconds_as_text(-age.total_seconds())} ahead of this machine's clock"
    return f"{seconds_as_text(age.total_seconds())} old"


def none_proven(catalog: Catalog) -> Finding:
    """Why none counts: to make another one is not always what mends it."""
    others = [backup for backup in catalog if backup.counts_as_proven(Accepted(other_key=True))]
    damaged = [backup for backup in catalog if backup.problem]
    detail, mend = "none is proven", RUN
    if others:
        detail = f"{len(others)} are proven under another SECRET_KEY, and none under this one"
        mend = SET_KEY
    elif damaged:
        detail = f"none of {len(catalog)} is proven; {damaged[0].id}: {damaged[0].problem}"
        mend = f"`obms doctor` says what is wrong with each; then {RUN}"
    return Finding(name=NEWEST, light="red", detail=detail, mend=mend)


def orphans(_scene: Scene, catalog: Catalog) -> Iterator[Finding]:
    """They count for nothing, and are never removed: they may not be ours."""
    for backup in catalog:
        if backup.state == "orphan":
            detail = f"{backup.file} has no manifest, and counts for nothing"
            mend = "`obms restore PATH --dry-run` tells whether it is a backup; remove it if it is none"
            yield Finding(name="orphans", light="yellow", detail=detail, mend=mend)


def schedule(scene: Scene, _catalog: Catalog) -> Iterator[Finding]:
    now = scene.backups.clock()
    due = scene.schedule.next_after(now)
    if due is None:
        detail = "the schedule is off: something else has to start the backups"
        yield Finding(name="next run", light="yellow", detail=detail, mend="BACKUP_SCHEDULE='0 0 * * *'")
        return
    detail = f"{due:%Y-%m-%d %H:%M} UTC"
    if is_held(scene.backups.folder, SCHEDULE) or _is_on_time(scene, now):
        yield Finding(name="next run", light="green", detail=detail)
        return
    detail += "; but no process keeps the schedule, and nothing else has made a run in time"
    yield Finding(name="next run", light="yellow", detail=detail, mend="`obms backup schedule`")


def _is_on_time(scene: Scene, now: datetime) -> bool:
    """Whether the last run, whoever started it, is no older than the schedule asks, at whatever hours."""
    record = read_record(scene.backups.storage)
    due = scene.schedule.next_after(record.started_at) if record else None
    following = scene.schedule.next_after(due) if due else None
    if record is None or due is None or following is None:
        return False
    return now < max(due, record.started_at + (following - due)) + LATE


def last_run(scene: Scene, _catalog: Catalog) -> Iterator[Finding]:
    record = read_record(scene.backups.storage)
    if record is None:
        there = RECORD in set(scene.backups.storage.names(RECORD))
        detail = f"{RECORD} cannot be read: it is damaged" if there else "there was none yet"
        yield Finding(name="last run", light="yellow", detail=detail, mend=RUN)
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


def shipped(scene: Scene, _catalog: Catalog) -> Iterator[Finding]:
    """Whether the stores hold the journal too: without it a loss of this machine would un-revoke badges."""
    counters = read_counters(scene.backups.folder)
    for store in scene.backups.stores:
        told: dict[str, Any] = counters.get(JOURNAL + store.name, {})
        behind = bytes_behind(scene.backups.later.journal, journal_held(counters, store.name))
        detail = "it holds all of the journal"
        light: Light = "green"
        if behind:
            detail = f"it lacks {size(behind)} of the journal: they would be lost with this machine"
            light = "red" if told.get("ok") is False else "yellow"  # it may be on its way
        mend = RUN if behind else ""
        yield Finding(name=f"revocations in {store.name}", light=light, detail=detail, mend=mend)


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
    told, counters = scene.places(), read_counters(scene.backups.folder)
    detail = f"{counters.get(UNDELIVERED, 0)} could not be delivered since counting began"
    deaf = [place for place in told if not counters.get(NOTICE + place, {}).get("ok", True)]
    light: Light = "green" if told and not deaf else "yellow"
    mend = "" if told else "BACKUP_NOTIFY_URLS=https://..., and BACKUP_HEARTBEAT_URL"
    if deaf:
        detail = f"the newest one to {', '.join(deaf)} was not delivered; {detail}"
        mend = "Check BACKUP_NOTIFY_URLS and BACKUP_HEARTBEAT_URL, and that the place answers."
    detail = detail if told else f"nobody is told; {detail}"
    yield Finding(name="notices", light=light, detail=detail, mend=mend)


LOOKS: tuple[Look, ...] = (
    database,
    keys,
    access,
    backups,
    orphans,
    schedule,
    last_run,
    stores,
    shipped,
    retention,
    drill,
    journal,
    notices,
    places.disk,
)
