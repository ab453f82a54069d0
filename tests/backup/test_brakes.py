"""B12 and K4: what holds removal back, and what lets it go on."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from obms.backup.brakes import RECORD, accept, read_accepted, why_held
from obms.backup.catalog import Backup
from obms.backup.retain import FOREVER, Policy, Shelf, plan
from obms.backup.storage import Folder
from tests.backup.histories import NOW, Made, ago

ROWS = {"credentials": 1000, "issuers": 3, "audit_events": 5000}


def sized(days: float, rows: Mapping[str, int] = ROWS, raw_bytes: int = 1000, kind: str = "sqlite") -> Backup:
    return Made(at=NOW - timedelta(days=days), rows=rows, raw_bytes=raw_bytes, kind=kind).backup()


def held(*backups: Backup, accepted: Backup | None = None, policy: Policy = FOREVER) -> str | None:
    known = {} if accepted is None else {accepted.database: accepted.id}
    return why_held(Shelf.of(backups, NOW), known, plan(backups, policy, NOW))


@pytest.mark.parametrize(
    ("rows", "raw_bytes", "what"),
    [
        (ROWS, 500, "500 of the 1000 bytes"),
        ({"credentials": 1000, "issuers": 3, "audit_events": 100}, 1000, "1103 of the 6003 rows"),
        (ROWS | {"credentials": 500}, 1000, "500 of the 1000 credentials"),
        ({"issuers": 3, "audit_events": 5000}, 1000, "0 of the 1000 credentials"),
    ],
)
def test_b12_half_or_less_holds_removal_back(rows: Mapping[str, int], raw_bytes: int, what: str) -> None:
    old, new = sized(1), sized(0, rows, raw_bytes)
    assert held(old, new, accepted=old) == f"{new.id} has only {what} of {old.id}"


@pytest.mark.parametrize(
    ("rows", "raw_bytes"),
    [
        (ROWS, 501),
        (ROWS | {"credentials": 501}, 1000),
        (ROWS | {"issuers": 0}, 1000),
        (ROWS | {"credentials": 9999}, 9999),
    ],
)
def test_less_than_that_does_not(rows: Mapping[str, int], raw_bytes: int) -> None:
    old = sized(1)
    assert held(old, sized(0, rows, raw_bytes), accepted=old) is None


def test_b12_repeated_shrunk_runs_never_become_the_new_normal() -> None:
    old = sized(9)
    shrunk = [sized(days, raw_bytes=400) for days in range(8, -1, -1)]
    assert held(old, *shrunk, accepted=old) is not None
    assert held(old, *shrunk) is not None, "also without a record"


def test_b12_it_ends_when_an_operator_accepts_it_or_the_size_is_back() -> None:
    old, shrunk, back = sized(2), sized(1, raw_bytes=400), sized(0)
    assert held(old, shrunk, accepted=shrunk) is None
    assert held(old, shrunk, back, accepted=old) is None


def test_a_baseline_that_is_gone_leaves_all_others_to_compare_with() -> None:
    large, middle, new = sized(3), sized(2, raw_bytes=700), sized(0, raw_bytes=400)
    assert held(large, middle, new, accepted=ago(1)) is not None
    assert held(middle, new, accepted=ago(1)) is None


def test_the_other_kind_of_database_is_not_compared() -> None:
    assert held(sized(1), sized(0, raw_bytes=1, kind="postgresql")) is None


def test_an_unproven_one_is_not_compared() -> None:
    small = Made(at=NOW, raw_bytes=1, state="unproven").backup()
    assert held(sized(1), small) is None
    assert held(Made(at=NOW - timedelta(days=1), raw_bytes=9999, state="bad").backup(), sized(0)) is None


def test_k4_a_leap_of_the_clock_holds_removal_back_until_it_is_accepted() -> None:
    old, ahead, next_day = ago(3651), ago(1), ago(0)
    words = "the clock has leaped, or no backup was made from 2016-11-23 to 2026-11-21"
    assert held(old, ahead, next_day, accepted=old) == words
    assert held(old, ahead, next_day, accepted=next_day) is None
    assert held(old, ahead, next_day, accepted=ahead) is None


def test_k4_a_date_ahead_of_the_clock_is_no_leap_once_the_clock_is_right() -> None:
    old, ahead = ago(1), Made(at=NOW + timedelta(days=3650)).backup()
    right = Made(at=NOW, named=NOW + timedelta(days=3651)).backup()
    assert held(old, ahead, right, accepted=old) is None


@pytest.mark.parametrize("pause", [30, 90], ids=["after weeks of failures", "by a clock weeks ahead"])
def test_k1_a_run_that_would_remove_most_of_what_is_good_is_held_back_until_as_many_stay(pause: int) -> None:
    old = [ago(pause + days) for days in range(7, -1, -1)]
    words = "8 of the 9 proven backups of sqlite would be removed at once"
    assert held(*old, ago(0), accepted=old[-1], policy=Policy()) == words
    bad = [ago(days, "bad") for days in range(2, 20)]
    assert held(*old, *bad, ago(0), policy=Policy()) == words
    fresh = [ago(days) for days in (6, 5, 4, 3, 2, 1, 0)]
    assert held(*old, *fresh, policy=Policy()) is not None
    assert held(*old, ago(6.5), *fresh, policy=Policy()) is None


def test_what_goes_day_by_day_is_not_held_back() -> None:
    assert held(ago(9), ago(8), ago(0), policy=Policy()) is None
    assert held(ago(2), ago(1), ago(0), policy=Policy(days=0)) is None
    assert held(*(ago(days) for days in range(10, -1, -1)), policy=Policy()) is None


def test_each_kind_of_database_is_counted_by_itself() -> None:
    others = [ago(days, kind="postgresql") for days in range(20)]
    assert held(ago(32), ago(31), ago(30), ago(0), *others, policy=Policy(days=20)) is not None


def test_a_pause_of_a_quarter_is_no_leap() -> None:
    assert held(ago(95), ago(0)) is None


def test_k2_a_foreign_file_is_no_leap() -> None:
    assert held(ago(9999, "orphan"), ago(1), ago(0)) is None


def test_what_was_accepted_is_read_again(tmp_path: Path) -> None:
    folder, newest = Folder(tmp_path), {"sqlite": ago(0), "postgresql": ago(1, kind="postgresql")}
    assert read_accepted(folder) == {}
    accept(folder, Shelf.of([*newest.values(), ago(2)], NOW), NOW)
    assert read_accepted(folder) == {kind: backup.id for kind, backup in newest.items()}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"accepted": 1}', b"\xff", b"[" * 100_000])
def test_a_damaged_record_accepts_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RECORD).write_bytes(content)
    assert read_accepted(Folder(tmp_path)) == {}
