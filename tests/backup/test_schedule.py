"""The schedule: due times, missed ones made up for once, and no run that ends it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obms.backup import Backups
from obms.backup.child_run import drill_in_child
from obms.backup.drill_report import Drill
from obms.backup.lock import is_held, locked
from obms.backup.run import read_record, run
from obms.backup.schedule import Duty, Schedule, keep_duties, keep_schedule, last_run
from obms.backup.staleness import watch_staleness
from obms.errors import ConfigurationError, LockHeld, StorageFailed
from tests.backup.conftest import Noted
from tests.deployment import Deployment

MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
DAILY = Schedule(expression="0 0 * * *")


@dataclass(slots=True)
class Hands:
    """A clock that stands still until somebody waits."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(slots=True)
class Runs:
    """Starts that are kept, each of which does what it was given to do."""

    clock: Hands
    outcomes: list[Exception | None] = field(default_factory=list)
    at: list[datetime] = field(default_factory=list)

    def __call__(self, _backups: Backups) -> None:
        self.at.append(self.clock.now)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome


@pytest.fixture
def backups_at(sqlite: Deployment, noted: Noted) -> Callable[[Hands], Backups]:
    """The deployment's backups under another clock, its events kept."""
    return lambda hands: replace(sqlite.backups, clock=hands, notify=noted)


def test_the_next_time_is_the_first_after_a_moment() -> None:
    assert DAILY.next_after(MIDNIGHT) == MIDNIGHT + timedelta(days=1)
    assert DAILY.next_after(MIDNIGHT - timedelta(seconds=1)) == MIDNIGHT


def test_a_schedule_that_is_off_has_no_next_time_and_no_runs(backups_at: Callable[[Hands], Backups]) -> None:
    off = Schedule(expression="off")
    runs = Runs(clock=Hands(MIDNIGHT))
    keep_schedule(backups_at(runs.clock), off, start=runs, wait=runs.clock.wait)
    assert off.next_after(MIDNIGHT) is None
    assert runs.at == []


@pytest.mark.parametrize("expression", ["at noon", "* * * *", "0 0 0 * * *", "61 0 * * *", "0 0 31 2 *", ""])
def test_a_bad_expression_is_a_wrong_configuration(expression: str) -> None:
    with pytest.raises(ConfigurationError, match="BACKUP_SCHEDULE"):
        Schedule(expression=expression)


def test_a_run_starts_at_each_due_time(backups_at: Callable[[Hands], Backups]) -> None:
    runs = Runs(clock=Hands(MIDNIGHT))
    keep_schedule(backups_at(runs.clock), DAILY, start=runs, wait=runs.clock.wait, runs=3)
    assert [at.date().day for at in runs.at] == [23, 24, 25]


def test_a_failing_run_is_told_and_does_not_stop_the_next(
    backups_at: Callable[[Hands], Backups], noted: Noted
) -> None:
    failure = StorageFailed(detail="here")
    runs = Runs(clock=Hands(MIDNIGHT), outcomes=[failure, ZeroDivisionError("a bug"), None])
    keep_schedule(backups_at(runs.clock), DAILY, start=runs, wait=runs.clock.wait, runs=3)
    assert len(runs.at) == 3
    told = noted.named("schedule.run_failed")
    assert [event.ok for event in told] == [False, False]
    assert "here" in str(told[0].facts)
    assert "a bug" in str(told[1].facts)


def test_s1_a_time_that_was_slept_through_is_made_up_for_once(
    backups_at: Callable[[Hands], Backups],
) -> None:
    early = backups_at(Hands(MIDNIGHT - timedelta(days=3)))
    run(early, prove_it=False)
    runs = Runs(clock=Hands(MIDNIGHT + timedelta(hours=5)))
    keep_schedule(backups_at(runs.clock), DAILY, start=runs, wait=runs.clock.wait, runs=3)
    assert [f"{at:%d %H}" for at in runs.at] == ["22 05", "23 00", "24 00"]


def test_without_a_missed_time_it_waits_for_the_next(backups_at: Callable[[Hands], Backups]) -> None:
    early = backups_at(Hands(MIDNIGHT + timedelta(hours=1)))
    run(early, prove_it=False)
    runs = Runs(clock=Hands(MIDNIGHT + timedelta(hours=5)))
    keep_schedule(backups_at(runs.clock), DAILY, start=runs, wait=runs.clock.wait, runs=1)
    assert runs.at[0].date().day == 23


def test_its_own_runs_are_backups(sqlite: Deployment) -> None:
    sqlite.seed(12)
    clock = Hands(MIDNIGHT)
    backups = replace(sqlite.backups, clock=clock)
    keep_schedule(backups, DAILY, wait=clock.wait, runs=1)
    record = read_record(backups.storage)
    assert record is not None
    assert record.ok
    (listed,) = sqlite.obms("backup", "list", "--json").json
    assert listed["proven"] is True


# Berlin leaves 02:00 to 03:00 out on 2026-03-29 and has it twice on 2026-10-25; New York on 03-08 and 11-01.
@pytest.mark.parametrize(
    ("zone", "fields", "begin", "days", "hours"),
    [
        ("Europe/Berlin", "30 2 * * *", "2026-03-28T00:00Z", 3, ["28 01:30", "29 01:00", "30 00:30"]),
        ("Europe/Berlin", "30 2 * * *", "2026-10-24T00:00Z", 3, ["24 00:30", "25 00:30", "26 01:30"]),
        ("America/New_York", "30 2 * * *", "2026-03-07T00:00Z", 3, ["07 07:30", "08 07:00", "09 06:30"]),
        ("America/New_York", "30 1 * * *", "2026-10-31T00:00Z", 3, ["31 05:30", "01 05:30", "02 06:30"]),
        ("Europe/Berlin", "0 * * * *", "2026-03-28T23:30Z", 0, ["29 00:00", "29 01:00", "29 02:00"]),
        ("Europe/Berlin", "0 * * * *", "2026-10-24T23:30Z", 0, ["25 00:00", "25 01:00", "25 02:00"]),
    ],
)
def test_a_clock_change_neither_loses_a_run_nor_doubles_it(
    zone: str, fields: str, begin: str, days: int, hours: list[str]
) -> None:
    moment = datetime.fromisoformat(begin)
    for schedule in (
        Schedule(expression=fields, timezone=zone),
        Schedule(expression=f"CRON_TZ={zone} {fields}", timezone="Asia/Tokyo"),
    ):
        assert list(due_times(schedule, moment, moment + timedelta(days=days, hours=3 - days))) == hours


CHANGES = (
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8)),
    ("America/New_York", date(2026, 11, 1)),
    ("America/Havana", date(2026, 3, 8)),  # at midnight
    ("Australia/Lord_Howe", date(2026, 10, 4)),  # by half an hour
    ("Pacific/Apia", date(2011, 12, 30)),  # by the whole day
)
MINUTES = {
    "0": [0],
    "30": [30],
    "*/20": [0, 20, 40],
    "10-50/20": [10, 30, 50],
    "*/10": list(range(0, 60, 10)),
}
HOURS = {
    "0": [0],
    "1": [1],
    "2": [2],
    "2-3": [2, 3],
    "*/2": list(range(0, 24, 2)),
    "*/3": list(range(0, 24, 3)),
}


def on_the_wall(zone: str, wall: datetime) -> datetime:
    """When a clock on the wall shows it first; what it never shows, when it has gone over it."""
    local = wall.replace(tzinfo=ZoneInfo(zone))
    while local.astimezone(UTC).astimezone(local.tzinfo) != local:
        local += timedelta(minutes=1)
    return local.astimezone(UTC)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(CHANGES), st.sampled_from(sorted(MINUTES)), st.sampled_from(sorted(HOURS)))
def test_every_time_of_the_wall_clock_is_due_once_whatever_the_zone_does(
    change: tuple[str, date], minute: str, hour: str
) -> None:
    zone, day = change
    days = [day + timedelta(days=passed) for passed in (-1, 0, 1)]
    walls = [
        datetime.combine(each, time(h, m)) for each in days for h in HOURS[hour] for m in MINUTES[minute]
    ]
    wanted = sorted({on_the_wall(zone, wall) for wall in walls})
    schedule = Schedule(expression=f"{minute} {hour} * * *", timezone=zone)
    due: datetime | None = wanted[0] - timedelta(seconds=1)
    for moment in wanted:
        assert due is not None
        due = schedule.next_after(due)
        assert due == moment


def due_times(schedule: Schedule, moment: datetime, end: datetime) -> Iterator[str]:
    """Asked anew from each moment, as the loop, /health and a process that was started again do."""
    seen = set()
    while moment < end:
        due = schedule.next_after(moment)
        assert due is not None
        assert due > moment
        if due < end and due not in seen:
            seen.add(due)
            yield f"{due:%d %H:%M}"
        moment += timedelta(minutes=7)


def test_a_process_that_starts_in_the_second_of_two_equal_hours_makes_no_second_run(
    backups_at: Callable[[Hands], Backups],
) -> None:
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in Berlin, for the first time
    run(backups_at(Hands(first)), prove_it=False)
    runs = Runs(clock=Hands(first + timedelta(minutes=40)))  # 02:10, for the second time
    nightly = Schedule(expression="30 2 * * *", timezone="Europe/Berlin")
    keep_schedule(backups_at(runs.clock), nightly, start=runs, wait=runs.clock.wait, runs=1)
    assert [f"{at:%d %H:%M}" for at in runs.at] == ["26 01:30"]


@pytest.mark.parametrize("zone", ["Europe/Bonn", "Europe", "../etc/passwd", "/etc/passwd", ""])
def test_a_time_zone_that_there_is_not_is_a_wrong_configuration(zone: str) -> None:
    for expression, timezone in (("0 0 * * *", zone), (f"CRON_TZ={zone} 0 0 * * *", "UTC")):
        with pytest.raises(ConfigurationError, match="no time zone") as told:
            Schedule(expression=expression, timezone=timezone)
        assert "BACKUP_TIMEZONE" in told.value.hint


def test_starts_are_spread_and_every_process_is_told_the_same_time() -> None:
    hour = timedelta(hours=1)
    names = [f"https://{number}.example.org" for number in range(20)]
    starts = [Schedule(expression="0 0 * * *", jitter=hour, seed=name).next_after(MIDNIGHT) for name in names]
    again = [Schedule(expression="0 0 * * *", jitter=hour, seed=name).next_after(MIDNIGHT) for name in names]
    tomorrow = MIDNIGHT + timedelta(days=1)
    # Midnight's own start may still be to come, where it is put off.
    assert all(start and (MIDNIGHT < start < MIDNIGHT + hour) for start in starts)
    assert starts == again
    assert len(set(starts)) == len(names)
    later = Schedule(expression="0 0 * * *", jitter=hour, seed=names[0]).next_after(MIDNIGHT + hour)
    assert later is not None
    assert tomorrow <= later < tomorrow + hour


def test_a_spread_start_comes_once_a_day(backups_at: Callable[[Hands], Backups]) -> None:
    spread = Schedule(expression="0 0 * * *", jitter=timedelta(hours=4), seed="here")
    runs = Runs(clock=Hands(MIDNIGHT - timedelta(hours=1)))
    keep_schedule(backups_at(runs.clock), spread, start=runs, wait=runs.clock.wait, runs=3)
    assert [at.date().day for at in runs.at] == [22, 23, 24]
    assert all(at.hour < 4 for at in runs.at)


@dataclass(slots=True)
class JumpingHands(Hands):
    """A clock that is set to another time once, after it was looked at so often."""

    to: datetime = MIDNIGHT
    looks: int = 10

    def wait(self, seconds: float) -> None:
        Hands.wait(self, seconds)
        self.looks -= 1
        if not self.looks:
            self.now = self.to


def test_b9_a_clock_that_is_set_back_while_it_waits_does_not_put_the_runs_off(
    backups_at: Callable[[Hands], Backups],
) -> None:
    clock = JumpingHands(MIDNIGHT, to=MIDNIGHT.replace(year=2016))
    runs = Runs(clock=clock)
    keep_schedule(backups_at(clock), DAILY, start=runs, wait=clock.wait, runs=2)
    assert [f"{at:%Y-%m-%d}" for at in runs.at] == ["2016-11-23", "2016-11-24"]


def test_s1_a_clock_that_jumps_years_ahead_is_one_missed_run_and_not_thousands(
    backups_at: Callable[[Hands], Backups],
) -> None:
    clock = JumpingHands(MIDNIGHT, to=datetime(2036, 1, 1, 12, tzinfo=UTC))
    runs = Runs(clock=clock)
    keep_schedule(backups_at(clock), DAILY, start=runs, wait=clock.wait, runs=2)
    assert [f"{at:%Y-%m-%d %H}" for at in runs.at] == ["2036-01-01 12", "2036-01-02 00"]


def test_b9_a_last_run_from_years_ahead_neither_stops_the_schedule_nor_starts_one_at_once(
    backups_at: Callable[[Hands], Backups],
) -> None:
    run(backups_at(Hands(MIDNIGHT.replace(year=2036))), prove_it=False)
    runs = Runs(clock=Hands(MIDNIGHT + timedelta(hours=5)))
    keep_schedule(backups_at(runs.clock), DAILY, start=runs, wait=runs.clock.wait, runs=1)
    assert [f"{at:%Y-%m-%d %H}" for at in runs.at] == ["2026-11-23 00"]


def test_what_is_looked_at_meanwhile_never_ends_the_schedule(
    backups_at: Callable[[Hands], Backups], noted: Noted
) -> None:
    runs = Runs(clock=Hands(MIDNIGHT + timedelta(hours=23, minutes=59)))

    def look() -> None:
        raise ZeroDivisionError("a bug")

    keep_schedule(backups_at(runs.clock), DAILY, start=runs, wait=runs.clock.wait, look=look, runs=1)
    assert len(runs.at) == 1
    assert noted.named("schedule.look_failed")


@pytest.mark.parametrize(
    ("hours", "started", "told"),
    [(1, ["23 01:00"], 1), (25, ["24 01:00"], 2)],
    ids=["a drill is at work", "it is so until the next due time"],
)
def test_b8_a_time_at_which_another_run_is_at_work_is_made_up_for_when_that_has_ended(
    backups_at: Callable[[Hands], Backups], noted: Noted, hours: int, started: list[str], told: int
) -> None:
    clock = Hands(MIDNIGHT)
    backups = backups_at(clock)
    ends = MIDNIGHT + timedelta(days=1, hours=hours)
    runs = Runs(clock=clock)

    def start(backups: Backups) -> None:
        with locked(backups):
            runs(backups)

    with ExitStack() as other:

        def look() -> None:
            if clock.now >= ends:
                other.close()

        other.enter_context(locked(backups))
        keep_schedule(backups, DAILY, start=start, wait=clock.wait, look=look, runs=1)
    assert [f"{at:%d %H:%M}" for at in runs.at] == started
    assert len(noted.named("backup.refused")) == told
    assert noted.named("schedule.run_failed") == []


def test_b8_a_folder_that_is_none_holds_no_lock(sqlite: Deployment) -> None:
    folder = sqlite.folder / "file"
    folder.write_bytes(b"")
    assert not is_held(replace(sqlite.backups, folder=folder))


def test_s2_a_folder_that_cannot_be_read_is_told_and_does_not_end_the_schedule(
    sqlite: Deployment, noted: Noted
) -> None:
    sqlite.environment["BACKUP_DIR"] = str(sqlite.folder / ("x" * 300))
    runs = Runs(clock=Hands(MIDNIGHT))
    backups = replace(sqlite.backups, clock=runs.clock, notify=noted)
    duties = [Duty(schedule=DAILY, start=runs, last=lambda: last_run(backups)) for _ in range(2)]
    watch = watch_staleness(backups, timedelta(hours=26))
    keep_duties(backups, duties, wait=runs.clock.wait, look=watch, runs=4)
    assert [at.date().day for at in runs.at] == [23, 23, 24, 24]
    (unknown,) = noted.named("schedule.last_unknown")
    assert not unknown.ok
    assert "too long" in str(unknown.facts["error"])
    assert len(noted.named("backup.stale")) == 1


def test_a_duty_has_its_own_times_and_both_are_done(
    backups_at: Callable[[Hands], Backups], noted: Noted
) -> None:
    clock = Hands(MIDNIGHT - timedelta(days=1))
    runs, drills = Runs(clock=clock), Runs(clock=clock, outcomes=[StorageFailed(detail="here")])
    weekly = Schedule(expression="0 4 * * 0", setting="DRILL_SCHEDULE")
    duties = [
        Duty(schedule=DAILY, start=runs, last=lambda: None),
        Duty(schedule=weekly, start=drills, last=lambda: None),
    ]
    keep_duties(backups_at(clock), duties, wait=clock.wait, runs=10)
    assert [f"{at:%d %H}" for at in runs.at] == [f"{day} 00" for day in range(22, 30)]
    assert [f"{at:%d %H}" for at in drills.at] == ["22 04", "29 04"]
    assert len(noted.named("schedule.run_failed")) == 1


def test_s1_a_drill_that_was_slept_through_is_made_up_for_once(
    backups_at: Callable[[Hands], Backups],
) -> None:
    clock = Hands(MIDNIGHT + timedelta(hours=5))
    drills = Runs(clock=clock)
    weekly = Schedule(expression="0 4 * * 0")
    last = MIDNIGHT - timedelta(days=20)
    duty = Duty(schedule=weekly, start=drills, last=lambda: last)
    off = Duty(schedule=Schedule(expression="off"), start=drills, last=lambda: last)
    keep_duties(backups_at(clock), [duty, off], wait=clock.wait, runs=2)
    assert [f"{at:%d %H}" for at in drills.at] == ["22 05", "29 04"]


def test_a_command_with_nothing_to_keep_says_so_and_ends(sqlite: Deployment) -> None:
    answer = sqlite.obms("backup", "schedule", BACKUP_SCHEDULE="off", DRILL_SCHEDULE="off")
    assert answer.code == 2
    assert "BACKUP_SCHEDULE and DRILL_SCHEDULE are off" in answer.err
    assert "do not start this command" in answer.err


def test_a_bad_drill_schedule_is_named(sqlite: Deployment) -> None:
    answer = sqlite.obms("backup", "schedule", DRILL_SCHEDULE="at noon")
    assert answer.code == 2
    assert "DRILL_SCHEDULE" in answer.err
    assert "BACKUP_SCHEDULE" not in answer.err


def test_the_drill_schedule_alone_holds_a_drill_as_a_process_of_its_own(stocked_sqlite: Deployment) -> None:
    stocked_sqlite.made_backup()
    assert stocked_sqlite.obms("drill").code == 0
    folder = stocked_sqlite.backup_dir / "drills"
    (first,) = folder.glob("*.json")
    drill = Drill.from_bytes(first.name, first.read_bytes())
    long_ago = replace(drill, started_at=drill.started_at - timedelta(days=30))
    first.write_bytes(long_ago.signed(stocked_sqlite.backups.signer).to_bytes())
    with stocked_sqlite.start("backup", "schedule", DRILL_SCHEDULE="0 4 * * 0") as command:
        assert command.stderr is not None
        line = next(line for line in command.stderr if "drill.done" in line)
        command.terminate()
    assert "level=info" in line
    assert len(list(folder.glob("*.json"))) == 2


def test_a_drill_that_ends_without_a_report_is_told(sqlite: Deployment, noted: Noted) -> None:
    backups = replace(sqlite.backups, notify=noted)
    drill_in_child(backups, (sys.executable, "-c", "raise SystemExit(1)"))
    drill_in_child(backups, (sys.executable, "-c", "raise SystemExit(9)"))
    with pytest.raises(LockHeld):
        drill_in_child(backups, (sys.executable, "-c", "raise SystemExit(7)"))
    (event,) = noted.named("drill.done")
    assert not event.ok
    assert "ended with 1" in str(event.facts["error"])
    assert read_record(backups.storage) is None
