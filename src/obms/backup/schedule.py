"""When the next run is due, and the loop that starts it."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Thread

from cronsim import CronSim, CronSimError

from obms.backup import Backups
from obms.backup.run import read_record, run
from obms.errors import ConfigurationError, ObmsError
from obms.observe import Event

OFF = "off"
# The wall clock is looked at this often: a machine that slept is late by no more than this.
LOOK = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A cron expression in UTC, or `off`."""

    expression: str

    def __post_init__(self) -> None:
        try:
            self.next_after(datetime.now(UTC))
        except CronSimError as error:
            raise ConfigurationError(
                detail=f"BACKUP_SCHEDULE {self.expression!r}: {error}",
                hint="Five fields as in `0 0 * * *` (daily at midnight UTC), or `off`.",
            ) from error

    def next_after(self, moment: datetime) -> datetime | None:
        """The first due time after `moment`; None when the schedule is off."""
        return None if self.expression == OFF else next(CronSim(self.expression, moment))


def keep_schedule(
    backups: Backups,
    schedule: Schedule,
    *,
    start: Callable[[Backups], object] | None = None,
    wait: Callable[[float], object] = time.sleep,
    runs: int = 0,
) -> None:
    """Run at each due time, for ever or `runs` times; a time that was missed is made up for, once.

    A run that fails is told by its events, and never ends the schedule.
    """
    due = _first_due(backups, schedule)
    done = 0
    while due is not None and not (runs and done == runs):
        backups.notify(Event(name="schedule.next", facts={"at": due.isoformat()}))
        while (left := due - backups.clock()) > timedelta():
            wait(min(LOOK, left).total_seconds())
        try:
            (start or _scheduled_run)(backups)
        except ObmsError as error:
            facts = {"error": str(error), "hint": error.hint}
            backups.notify(Event(name="schedule.run_failed", ok=False, facts=facts))
        except Exception as error:  # noqa: BLE001 - one bad run must not end the schedule
            backups.notify(Event(name="schedule.run_failed", ok=False, facts={"error": repr(error)}))
        done += 1
        due = schedule.next_after(backups.clock())


def end_with_input() -> None:
    """End this process, as SIGTERM does, when its standard input ends: its parent is gone."""

    def watch() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=watch, daemon=True).start()


def _scheduled_run(backups: Backups) -> None:
    run(backups, reason="scheduled")


def _first_due(backups: Backups, schedule: Schedule) -> datetime | None:
    """Now, if a run fell due since the last one; else the next due time."""
    now = backups.clock()
    record = read_record(backups.storage)
    if record is None:
        return schedule.next_after(now)
    missed = schedule.next_after(min(now, record.started_at))
    return now if missed is not None and missed <= now else schedule.next_after(now)
