"""When the next run is due, and the loop that starts it."""

import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Thread
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from obms.backup import Backups
from obms.backup.lock import is_held
from obms.backup.run import read_record, run
from obms.errors import ConfigurationError, LockHeld, ObmsError
from obms.observe import Event

OFF = "off"
ZONE = "CRON_TZ="
FIELDS = 5
# The wall clock is looked at this often: a machine that slept is late by no more than this.
LOOK = timedelta(seconds=30)
NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A cron expression, or `off`, in a time zone; `CRON_TZ=Europe/Berlin 0 3 * * *` names its own.

    Each start is put off by less than `jitter`, by an amount that follows from the due time and
    `seed`: another process that asks is told the same time.
    """

    expression: str
    timezone: str = "UTC"
    jitter: timedelta = timedelta()
    seed: str = ""
    setting: str = "BACKUP_SCHEDULE"

    def __post_init__(self) -> None:
        try:
            possible = self.next_after(datetime.now(UTC)) is not None or self.expression == OFF
            problem = "" if possible else "it is never due"
        except CronSimError as error:
            problem = str(error)
        except (ValueError, OSError, LookupError):
            zone = self._zone_and_fields()[0]
            raise ConfigurationError(
                detail=f"there is no time zone {zone!r}",
                hint="Set BACKUP_TIMEZONE, or CRON_TZ= in a schedule, to a name like Europe/Berlin.",
            ) from None
        if problem:
            raise ConfigurationError(
                detail=f"{self.setting} {self.expression!r}: {problem}",
                hint="Five fields as in `0 0 * * *` (daily at midnight), or `off`.",
            )

    def next_after(self, moment: datetime) -> datetime | None:
        """The first start after `moment`, in UTC; None when the schedule is off."""
        if self.expression == OFF:
            return None
        starts = (due + self._delay(due) for due in self._due_after(moment - self.jitter))
        return next((start for start in starts if start > moment), None)

    def _due_after(self, moment: datetime) -> Iterator[datetime]:
        """A time that a clock change leaves out is due after it, and one that it repeats is due once.

        That is Debian's cron; what is due each hour (`*`) goes on by real time there too.
        """
        zone, fields = self._zone_and_fields()
        if len(fields.split()) != FIELDS:
            raise CronSimError("Wrong number of fields")
        local = moment.astimezone(ZoneInfo(zone) if zone != "UTC" else UTC)
        for due in CronSim(_by_the_wall(fields), local):
            # In an hour that is there for the second time, it also gives what was due in the first.
            if due.astimezone(UTC) > moment:
                yield due.astimezone(UTC)

    def _zone_and_fields(self) -> tuple[str, str]:
        if not self.expression.startswith(ZONE):
            return self.timezone, self.expression
        zone, _, fields = self.expression.removeprefix(ZONE).partition(" ")
        return zone, fields.strip()

    def _delay(self, due: datetime) -> timedelta:
        return self.jitter * random.Random(f"{self.seed} {due.isoformat()}").random()  # noqa: S311 - no secret


def _by_the_wall(fields: str) -> str:
    """The same times, spelled so that they are those of the wall clock: steps would go on by real time.

    `*/15 2 * * 0` would have none in a week whose hour of two is left out. Each hour there is, is one.
    """
    minute, hour, *days = fields.split()
    if hour.startswith("*") and not hour.startswith("*/"):
        return fields
    return " ".join((re.sub(r"^\*", "0-59", minute), re.sub(r"^\*", "0-23", hour), *days))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Duty:
    """Something to do at each time of a schedule; `last` tells when it was done last, None if never."""

    schedule: Schedule
    start: Callable[[Backups], object]
    last: Callable[[], datetime | None]


def keep_schedule(
    backups: Backups,
    schedule: Schedule,
    *,
    start: Callable[[Backups], object] | None = None,
    wait: Callable[[float], object] = time.sleep,
    look: Callable[[], object] = lambda: None,
    runs: int = 0,
) -> None:
    """Make a backup at each due time; see `keep_duties`."""
    duty = Duty(schedule=schedule, start=start or _scheduled_run, last=lambda: last_run(backups))
    keep_duties(backups, [duty], wait=wait, look=look, runs=runs)


def keep_duties(
    backups: Backups,
    duties: Sequence[Duty],
    *,
    wait: Callable[[float], object] = time.sleep,
    look: Callable[[], object] = lambda: None,
    runs: int = 0,
) -> None:
    """Do each at its due times, one after another, for ever or `runs` times.

    A time that was missed is made up for, once, where it can be read when it was done last; one at which
    another run is at work, when that has ended. What fails is told by its events, and never ends the
    schedule. `look` is called each time the clock is looked at.
    """
    due = _first_dues(backups, duties)
    done = 0
    while due and not (runs and done == runs):
        backups.notify(Event(name="schedule.next", facts={"at": min(due.values()).isoformat()}))
        duty = _wait_for(due, backups, wait, look)
        guard(backups, "schedule.run_failed", partial(_do, backups, duty, wait, look))
        done += 1
        due[duty] = duty.schedule.next_after(backups.clock()) or NEVER


def _wait_for(
    due: dict[Duty, datetime],
    backups: Backups,
    wait: Callable[[float], object],
    look: Callable[[], object],
) -> Duty:
    """Until one is due by the wall clock as it goes now: set back, it has earlier due times again."""
    while (now := backups.clock()) < min(due.values()):
        for duty, at in due.items():
            due[duty] = min(at, duty.schedule.next_after(now) or at)
        wait(min(LOOK, min(due.values()) - now).total_seconds())
        guard(backups, "schedule.look_failed", look)
    return min(due, key=lambda duty: due[duty])


def _do(backups: Backups, duty: Duty, wait: Callable[[float], object], look: Callable[[], object]) -> None:
    """Start it; where another run is at work, again when that has ended, or when it is due again.

    So a refusal, which is told where it is made, is told once for each due time.
    """
    while True:
        try:
            duty.start(backups)
        except LockHeld:
            again = duty.schedule.next_after(backups.clock()) or NEVER
        else:
            return
        while is_held(backups) and backups.clock() < again:
            wait(LOOK.total_seconds())
            guard(backups, "schedule.look_failed", look)


def guard(backups: Backups, failure: str, step: Callable[[], object]) -> None:
    """Do it, and tell of what goes wrong with it: nothing ends the schedule."""
    try:
        step()
    except ObmsError as error:
        facts = {"error": str(error), "hint": error.hint, "exit_code": error.exit_code}
        backups.notify(Event(name=failure, ok=False, facts=facts))
    except Exception as error:  # noqa: BLE001 - one bad run must not end the schedule
        backups.notify(Event(name=failure, ok=False, facts={"error": repr(error)}))


def end_with_input() -> None:
    """End this process, as SIGTERM does, when its standard input ends: its parent is gone."""

    def watch() -> None:
        # Past sys.stdin, whose lock would be held when the process ends by itself.
        while os.read(0, 1):
            continue
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=watch, daemon=True).start()


def _scheduled_run(backups: Backups) -> None:
    run(backups, reason="scheduled")


def last_run(backups: Backups) -> datetime | None:
    """When the last run began, well or not."""
    record = read_record(backups.storage)
    return record.started_at if record else None


def _first_dues(backups: Backups, duties: Sequence[Duty]) -> dict[Duty, datetime]:
    """When each is due first, of those whose schedule is not off; why that is a guess is told once."""
    now, due, unread = backups.clock(), {}, None
    for duty in duties:
        if (following := duty.schedule.next_after(now)) is None:
            continue
        try:
            due[duty] = now if _was_missed(duty, now) else following
        except ObmsError as error:
            due[duty], unread = following, unread or error
    if unread:
        facts = {"error": str(unread), "hint": unread.hint}
        backups.notify(Event(name="schedule.last_unknown", ok=False, facts=facts))
    return due


def _was_missed(duty: Duty, now: datetime) -> bool:
    """Whether a time has passed since it was last done."""
    last = duty.last()
    missed = duty.schedule.next_after(min(now, last)) if last else None
    return missed is not None and missed <= now
