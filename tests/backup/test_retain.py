"""The plan of retention: each backup has its verdict, and a reason that a person can read."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from obms.backup.catalog import Backup
from obms.backup.retain import Plan, Policy, plan
from tests.backup.histories import NOW, Made, ago
from tests.backup.test_manifest import OTHER

WEEK = Policy(days=7)
NOTHING_BY_AGE = Policy(days=0)


def reasons(backups: Sequence[Backup], policy: Policy = WEEK) -> list[str]:
    """The reasons in the order of the backups."""
    found = plan(backups, policy, NOW)
    return [found.reasons[backup.file] for backup in backups]


def removed(planned: Plan) -> set[str]:
    return {backup.file for backup in planned.remove}


def test_a_backup_goes_when_it_is_older_than_the_days_of_the_policy() -> None:
    assert reasons([ago(0), ago(1), ago(7), ago(7.001), ago(30)]) == [
        "kept: the newest proven",
        "kept: not older than 7 days",
        "kept: not older than 7 days",
        "removed: older than 7 days",
        "removed: older than 7 days",
    ]


def test_the_plan_names_each_backup_once_newest_first() -> None:
    backups = [ago(9), ago(0), ago(1), ago(8)]
    planned = plan(backups, WEEK, NOW)
    assert planned.keep == (backups[1], backups[2])
    assert planned.remove == (backups[3], backups[0])
    assert list(planned.reasons) == [backups[index].file for index in (1, 2, 3, 0)]


def test_one_day_is_written_as_one() -> None:
    assert reasons([ago(0), ago(2)], Policy(days=1))[1] == "removed: older than 1 day"


def test_zero_days_keep_nothing_by_age() -> None:
    assert reasons([ago(0), ago(0.001)], NOTHING_BY_AGE)[1] == "removed: older than the newest proven"


def test_off_removes_nothing() -> None:
    assert reasons([ago(0), ago(9999)], Policy(days=None))[1] == "kept: retention is off"


def test_off_wins_over_the_buckets() -> None:
    assert not plan([ago(0), ago(9), ago(99)], Policy(days=None, daily=1), NOW).remove


def test_k3_the_newest_proven_one_stays_however_old_it_is() -> None:
    assert reasons([ago(0, "unproven"), ago(1, "bad"), ago(400), ago(500)], NOTHING_BY_AGE) == [
        "kept: younger than the newest proven",
        "kept: younger than the newest proven",
        "kept: the newest proven",
        "removed: older than the newest proven",
    ]


def test_k1_none_gets_older_while_none_succeeds() -> None:
    backups = [ago(100), ago(101), ago(106)]
    assert not plan(backups, WEEK, NOW).remove


def test_k3_without_a_proven_one_everything_stays() -> None:
    assert reasons([ago(0, "unproven"), ago(99, "bad")]) == ["kept: none of its kind is proven"] * 2


def test_each_kind_of_database_has_a_newest_proven_one() -> None:
    backups = [ago(0), ago(90, kind="postgresql"), ago(91, kind="postgresql"), ago(99, kind="postgresql")]
    assert reasons(backups)[1:] == [
        "kept: the newest proven",
        "kept: not older than 7 days",
        "removed: older than 7 days",
    ]


def test_a_pinned_one_stays_and_says_why() -> None:
    assert reasons([ago(0), ago(99, pin="before the move"), ago(98, pin="")])[1:] == [
        "kept: pinned (before the move)",
        "kept: pinned",
    ]


def test_the_one_that_undo_needs_stays() -> None:
    safety = replace(ago(99, "unproven"), id="safety")
    assert plan([ago(0), safety], WEEK, NOW, undo={"safety"}).reasons[safety.file].endswith("undo` needs it")
    assert removed(plan([ago(0), safety], WEEK, NOW)) == {safety.file}


@pytest.mark.parametrize("state", ["unproven", "bad", "damaged"])
def test_what_is_not_good_goes_by_age_like_others(state: str) -> None:
    young, old = (replace(ago(days, state)) for days in (3, 9))  # type: ignore[arg-type]
    assert [reason.split(":")[0] for reason in reasons([ago(0), young, old])] == ["kept", "kept", "removed"]


def test_k2_what_may_not_be_ours_stays() -> None:
    orphan = ago(99, "orphan")
    unreadable = replace(ago(98, "orphan"), problem="it was changed after it was written")
    old, older = ago(96), ago(97)
    assert old.manifest
    assert older.manifest
    other = replace(old, manifest=replace(old.manifest, signed_by=OTHER.public))
    unsigned = replace(older, manifest=replace(older.manifest, signature=""))
    assert reasons([ago(0), orphan, unreadable, other, unsigned])[1:] == [
        "kept: it has no manifest, so that it may not be ours",
        "kept: its manifest cannot be believed, so that it may not be ours",
        *["kept: its manifest is not signed by this server, so that it may not be ours"] * 2,
    ]


def test_buckets_keep_the_newest_proven_one_of_each_day() -> None:
    policy = Policy(days=0, daily=3)
    backups = [ago(0), ago(0.1), ago(1), ago(1.1), ago(2, "unproven"), ago(5), ago(6)]
    assert reasons(backups, policy) == [
        "kept: the newest proven",
        "removed: older than the newest proven",
        "kept: daily 2 of 3",
        "removed: older than the newest proven",
        "removed: older than the newest proven",
        "kept: daily 3 of 3",
        "removed: older than the newest proven",
    ]


def test_buckets_of_weeks_months_and_years() -> None:
    policy = Policy(days=0, weekly=2, monthly=3, yearly=3)
    # Sunday 2026-11-22, the Sunday before, Saturday of that week, October, September, 2025, 2024
    backups = [ago(days) for days in (0, 7, 8, 35, 70, 330, 700)]
    assert reasons(backups, policy) == [
        "kept: the newest proven",
        "kept: weekly 2 of 2",
        "removed: older than the newest proven",
        "kept: monthly 2 of 3",
        "kept: monthly 3 of 3",
        "kept: yearly 2 of 3",
        "kept: yearly 3 of 3",
    ]


def test_a_week_goes_over_the_end_of_the_year() -> None:
    last = Made(at=NOW.replace(year=2025, month=12, day=31)).backup()
    first = Made(at=NOW.replace(year=2026, month=1, day=1)).backup()
    assert removed(plan([last, first], Policy(days=0, weekly=9), NOW)) == {last.file}


def test_k4_with_the_clock_behind_everything_stays() -> None:
    backups = [ago(days) for days in (0, 8, 16)]
    behind = NOW - timedelta(days=3650)
    newest = Made(at=behind, named=NOW + timedelta(seconds=1)).backup()
    assert not plan([newest, *backups], WEEK, behind).remove
    assert plan([newest, *backups], WEEK, behind).reasons[backups[1].file] == (
        "kept: its date lies ahead of the clock"
    )


def test_k4_a_backup_made_by_a_clock_that_was_behind_is_not_old() -> None:
    behind = Made(at=NOW - timedelta(days=3650), named=NOW - timedelta(days=1)).backup()
    assert reasons([ago(0), behind])[1] == "kept: not older than 7 days"


def test_k4_after_a_date_ahead_of_the_clock_the_others_still_go_by_age() -> None:
    ahead = NOW + timedelta(days=3650)
    later = [Made(at=NOW - timedelta(days=9 - n), named=ahead + timedelta(seconds=n)) for n in range(1, 10)]
    backups = [ago(10), Made(at=ahead).backup(), *(made.backup() for made in later)]
    planned = plan(backups, WEEK, NOW)
    assert removed(planned) == {backups[0].file, backups[2].file}
    assert planned.reasons[backups[1].file] == "kept: its date lies ahead of the clock"
