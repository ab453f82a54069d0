"""The schedule: due times, missed ones made up for once, and no run that ends it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from obms.backup import Backups
from obms.backup.run import read_record, run
from obms.backup.schedule import Schedule, keep_schedule
from obms.errors import ConfigurationError, LockHeld
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


@pytest.mark.parametrize("expression", ["at noon", "* * * *", "61 0 * * *", ""])
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
    runs = Runs(clock=Hands(MIDNIGHT), outcomes=[LockHeld(folder="here"), ZeroDivisionError("a bug"), None])
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
    keep_schedule(backups_at(runs.clock), DAILY, start=runs, wait=runs.clock.wait, runs=1)
    assert runs.at[0] - MIDNIGHT < timedelta(hours=6)


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
