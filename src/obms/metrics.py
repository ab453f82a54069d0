"""Metrics for Prometheus, computed when asked for, from the backups and records of every process."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from obms.backup.catalog import Backup, read_catalog
from obms.backup.counters import (
    FAILURES,
    JOURNAL,
    REFUSALS,
    RUNS,
    STORE,
    UNDELIVERED,
    journal_held,
    read_counters,
)
from obms.backup.journal import Journal
from obms.backup.prune import Place, foresee
from obms.backup.retain import Policy
from obms.backup.run import Record, read_record
from obms.backup.schedule import Schedule
from obms.backup.shipping import bytes_behind
from obms.backup.staleness import is_stale
from obms.backup.storage import Folder
from obms.errors import ObmsError, StorageFailed
from obms.observe import Clock, Event, Hook

STATES = ("proven", "unproven", "bad", "damaged", "orphan")
COUNTERS = {
    RUNS: "Runs that ended, well or not.",
    FAILURES: "Runs that failed.",
    REFUSALS: "Runs that were refused, as another one was at work.",
    UNDELIVERED: "Notices that could not be delivered.",
}
RECOVERIES = (
    ("restore", "seconds", "last_restore_seconds", "How long the last restore took (RTO)."),
    ("restore", "at", "last_restore_timestamp_seconds", "When the last restore ended."),
    ("drill", "seconds", "last_drill_seconds", "How long the last drill took (RTO)."),
    ("drill", "at", "last_drill_timestamp_seconds", "When the last drill ended."),
    ("drill", "rpo_seconds", "last_drill_rpo_seconds", "What a loss would have cost when it began."),
    ("drill", "ok", "last_drill_success", "Whether the last drill went well."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What is measured: the backups of a folder, and what they are measured by.

    `stores` are names.
    """

    folder: Path
    kind: str
    trusted: str | None
    schedule: Schedule
    policy: Policy
    max_age: timedelta
    stores: tuple[str, ...]
    version: str
    revision: str
    clock: Clock
    journal: Journal


class Backups(Collector):
    """All metrics of the backups. What cannot be read is left out, and `obms_backup_folder_readable` is 0."""

    def __init__(self, measured: Measured) -> None:
        self.measured = measured

    def collect(self) -> Iterator[Metric]:
        measured = self.measured
        about = {"version": measured.version, "schema": measured.revision, "database": measured.kind}
        yield InfoMetricFamily("obms", "Version and schema of the server.", about)
        yield _gauge("max_age_seconds", "BACKUP_MAX_AGE.", measured.max_age.total_seconds())
        due = measured.schedule.next_after(measured.clock())
        if due is not None:
            yield _gauge("next_run_timestamp_seconds", "When the next run is due.", due.timestamp())
        yield from _counted(read_counters(measured.folder), measured.stores)
        readable = True
        try:
            storage = Folder(measured.folder)
            catalog = list(read_catalog(storage, measured.trusted))
            yield from _of_catalog(catalog, measured)
            place = Place(storage=storage, policy=measured.policy, trusted=measured.trusted)
            held = foresee(place, catalog, measured.clock()).held
            yield _gauge("retention_held", "Whether removal is held back.", float(held is not None))
            yield from _of_record(read_record(storage))
            yield from _of_disk(measured.folder)
            yield from _of_journal(measured, read_counters(measured.folder))
        except (StorageFailed, OSError):
            readable = False
        yield _gauge("folder_readable", "Whether the backup folder can be read.", float(readable))
        writable = float(measured.journal.problem() is None)
        yield _gauge("journal_writable", "Whether revocations can be written beside the backups.", writable)


def exposition(measured: Measured) -> bytes:
    """The text that Prometheus reads."""
    return generate_latest(_registry(measured))


def textfile(path: Path, measured: Callable[[], Measured], report: Hook) -> Hook:
    """The hook that writes them to `path` after each run, as a whole; `report` is told where that fails."""

    def write(event: Event) -> None:
        if event.name not in ("backup.run", "backup.refused", "restore.done", "drill.done"):
            return
        try:
            write_to_textfile(str(path), _registry(measured()))
        except (OSError, ObmsError) as error:
            facts = {"error": f"{path}: {error}"}
            report(Event(name="metrics.failed", ok=False, facts=facts))

    return write


def _registry(measured: Measured) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Backups(measured))
    return registry


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"obms_backup_{name}", meaning, value)


def _labelled(name: str, meaning: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(f"obms_backup_{name}", meaning, labels=[label])
    for value, number in values:
        family.add_metric([value], number)
    return family


def _counted(counters: Mapping[str, Any], stores: tuple[str, ...]) -> Iterator[Metric]:
    for name, meaning in COUNTERS.items():
        if name in counters:
            yield CounterMetricFamily(f"obms_backup_{name}", meaning, counters[name])
    for recovery, told, name, meaning in RECOVERIES:
        value = _number(counters.get(recovery, {}), told)
        if value is not None:
            yield _gauge(name, meaning, value)
    if stores and counters:
        yield from _of_stores({name: counters.get(STORE + name, {}) for name in stores})


def _of_stores(found: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    complete = ((name, _number(told, "complete_at") or 0) for name, told in found.items())
    held = ((name, _number(told, "ok") or 0) for name, told in found.items())
    yield _labelled(
        "store_complete_timestamp_seconds",
        "When the store last held every proven backup; 0 is never.",
        "store",
        complete,
    )
    yield _labelled("store_success", "Whether the last copy to the store succeeded.", "store", held)


def _number(counted: Mapping[str, Any], name: str) -> float | None:
    value = counted.get(name)
    return float(value) if isinstance(value, int | float) else None


def _of_catalog(catalog: list[Backup], measured: Measured) -> Iterator[Metric]:
    states: Counter[str] = Counter(backup.state for backup in catalog)
    counts = ((state, float(states.get(state, 0))) for state in STATES)
    yield _labelled("backups", "Backups in the folder, by state.", "state", counts)
    newest = next((one for one in catalog if one.proven and one.database == measured.kind), None)
    now = measured.clock()
    created_at = newest.created_at if newest else None
    stale = is_stale(created_at, now, measured.max_age)
    yield _gauge("stale", "Whether there is no proven backup younger than BACKUP_MAX_AGE.", float(stale))
    if newest is None or newest.manifest is None or created_at is None:
        return
    manifest = newest.manifest
    yield _gauge(
        "newest_proven_timestamp_seconds", "The moment of the newest proven backup.", created_at.timestamp()
    )
    yield _gauge(
        "rpo_seconds", "What a loss now would cost: age of that backup.", (now - created_at).total_seconds()
    )
    yield _gauge("size_bytes", "Its size as it is stored.", manifest.bytes)
    yield _gauge("raw_size_bytes", "Its size as it was read from the database.", manifest.raw_bytes)
    yield _labelled("rows", "Its rows, by table.", "table", sorted(manifest.rows.items()))


def _of_record(record: Record | None) -> Iterator[Metric]:
    if record is None:
        return
    yield _gauge(
        "last_run_timestamp_seconds", "When the last run began, well or not.", record.started_at.timestamp()
    )
    yield _gauge("last_run_success", "Whether it went well.", float(record.ok))
    yield _gauge("last_run_exit_code", "The exit code that says how it ended.", record.exit_code)
    yield _gauge("last_run_duration_seconds", "How long it took.", sum(record.stages.values()))
    yield _labelled("stage_duration_seconds", "How long each stage took.", "stage", record.stages.items())


def _of_journal(measured: Measured, counters: Mapping[str, Any]) -> Iterator[Metric]:
    if not measured.stores or not counters:
        return
    held = {name: journal_held(counters, name) for name in measured.stores if JOURNAL + name in counters}
    behind = [(name, float(bytes_behind(measured.journal, known))) for name, known in held.items()]
    meaning = "How much of the journal of revocations is not known to be in the store."
    yield _labelled("journal_behind_bytes", meaning, "store", behind)


def _of_disk(folder: Path) -> Iterator[Metric]:
    try:
        usage = shutil.disk_usage(folder)
    except OSError:  # there is none yet
        return
    yield _gauge("disk_free_bytes", "Free on the disk of the backup folder.", usage.free)
    yield _gauge("disk_size_bytes", "Size of that disk.", usage.total)
