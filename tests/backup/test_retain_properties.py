"""Whatever the history, the policy and the clock: what retention never does, what its crash leaves."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from obms.backup.brakes import why_held
from obms.backup.catalog import Backup, read_catalog
from obms.backup.manifest import MANIFEST_END, VERDICT_END
from obms.backup.prune import Place, retain, sweep_removals
from obms.backup.retain import Policy, Shelf, plan
from obms.backup.storage import Folder
from obms.databases import Chunks
from obms.observe import no_event
from tests.backup.histories import NOW, Made, ago
from tests.backup.test_manifest import SIGNER

TEN_YEARS = timedelta(days=3650)
POLICIES = st.builds(
    Policy,
    days=st.none() | st.integers(0, 40),
    daily=st.integers(0, 4),
    weekly=st.integers(0, 4),
    monthly=st.integers(0, 4),
    yearly=st.integers(0, 4),
)
STATES = st.sampled_from(["proven", "proven", "proven", "unproven", "bad", "damaged", "orphan"])


@st.composite
def histories(draw: st.DrawFn, *, states: st.SearchStrategy[str] = STATES) -> Sequence[Backup]:
    """Backups in the order in which they were made, by a clock that now and then is wrong by years."""
    true, named = datetime(2024, 2, 27, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC)
    made = []
    for _ in range(draw(st.integers(0, 12))):
        true += timedelta(hours=draw(st.integers(1, 400)))
        wrong = draw(st.sampled_from([0, 0, 0, 0, 0, 1, -1])) * draw(st.integers(1, 4000))
        at = true + timedelta(days=wrong)
        named = max(named + timedelta(seconds=1), at)  # as `free_name` gives names
        made.append(
            Made(
                at=at,
                named=named,
                state=draw(states),  # type: ignore[arg-type]
                kind=draw(st.sampled_from(["sqlite", "sqlite", "postgresql"])),
                pin=draw(st.sampled_from([None, None, None, "why"])),
            ).backup()
        )
    return made


NOWS = st.datetimes(datetime(2010, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone is beside it


def files(backups: Iterable[Backup]) -> set[str]:
    return {backup.file for backup in backups}


def newest_proven(history: Sequence[Backup], kind: str) -> int | None:
    proven = [
        place
        for place, backup in enumerate(history)
        if backup.proven and backup.manifest and backup.database == kind
    ]
    return max(proven, default=None)


@given(history=histories(), policy=POLICIES, now=NOWS)
def test_k3_the_newest_proven_one_and_what_is_younger_survive(
    history: Sequence[Backup], policy: Policy, now: datetime
) -> None:
    kept = plan(history, policy, now).keep
    for place, backup in enumerate(history):
        newest = newest_proven(history, backup.database)
        if newest is None or place >= newest:
            assert backup in kept


@given(history=histories(), policy=POLICIES, now=NOWS, needed=st.integers(0, 11))
def test_k2_only_what_is_ours_and_nobody_wants_goes(
    history: Sequence[Backup], policy: Policy, now: datetime, needed: int
) -> None:
    undo = {backup.id for backup in history[needed : needed + 1]}
    for backup in plan(history, policy, now, undo=undo).remove:
        assert backup.manifest is not None
        assert backup.pin is None
        assert backup.id not in undo


@given(history=histories(), policy=POLICIES, now=NOWS, chance=st.randoms(use_true_random=False))
def test_each_has_a_verdict_and_the_same_one_each_time(
    history: Sequence[Backup], policy: Policy, now: datetime, chance: Random
) -> None:
    planned = plan(history, policy, now)
    assert files(planned.keep) | files(planned.remove) == files(history)
    assert len(planned.keep) + len(planned.remove) == len(planned.reasons) == len(history)
    for backup in history:
        verdict = "kept: " if backup in planned.keep else "removed: "
        assert planned.reasons[backup.file].startswith(verdict)
    mixed = list(history)
    chance.shuffle(mixed)
    assert plan(mixed, policy, now) == planned


@given(history=histories(), policy=POLICIES, now=NOWS)
def test_what_was_kept_once_is_kept_again(history: Sequence[Backup], policy: Policy, now: datetime) -> None:
    kept = plan(history, policy, now).keep
    assert plan(kept, policy, now).remove == ()


@given(history=histories(), days=st.integers(0, 40), more=st.integers(0, 40), now=NOWS)
def test_more_days_never_keep_less(history: Sequence[Backup], days: int, more: int, now: datetime) -> None:
    fewer = files(plan(history, Policy(days=days), now).keep)
    assert fewer <= files(plan(history, Policy(days=days + more), now).keep)


@given(history=histories(), policy=POLICIES, days=st.integers(0, 9999))
def test_k1_time_alone_removes_nothing(history: Sequence[Backup], policy: Policy, days: int) -> None:
    now = max([NOW, *(backup.named_at or NOW for backup in history)])
    later = now + timedelta(days=days)
    assert plan(history, policy, later).remove == plan(history, policy, now).remove


@given(days=st.lists(st.integers(1, 60), max_size=8, unique=True), ahead=st.booleans(), policy=POLICIES)
def test_k4_a_clock_that_leaps_loses_nothing(days: list[int], ahead: bool, policy: Policy) -> None:
    """The last run, and those after it, are by a clock that is ten years ahead, or behind."""
    history = [ago(age) for age in sorted(days, reverse=True)] + [ago(0)]
    accepted = {"sqlite": history[-1].id}
    now = NOW + TEN_YEARS if ahead else NOW - TEN_YEARS
    kept_before = files(plan(history, policy, NOW).keep)
    for number in range(1, 4):
        now += timedelta(days=1)
        named = max(now, NOW + timedelta(seconds=number))
        history.append(Made(at=now, named=named).backup())
        shelf = Shelf.of(history, now)
        planned = plan(history, policy, now)
        if why_held(shelf, accepted, planned) is None:
            assert kept_before <= files(planned.keep)
            accepted = {"sqlite": history[-1].id}


class Crash(BaseException):
    """The end of the process, as far as what is on the disk can tell."""


class Dying(Folder):
    """A folder that ends the process at one of its changes."""

    def __init__(self, path: Path, steps: int) -> None:
        super().__init__(path)
        self.steps = steps

    def put(self, name: str, chunks: Chunks, **asked: Any) -> None:
        self._step()
        super().put(name, chunks, **asked)

    def remove(self, name: str) -> None:
        self._step()
        super().remove(name)

    def _step(self) -> None:
        if self.steps == 0:
            raise Crash
        self.steps -= 1


def put_all(history: Sequence[Backup], path: Path) -> Folder:
    """The files of a history."""
    folder = Folder(path)
    for backup in history:
        if backup.state != "damaged":
            folder.put(backup.file, iter((b"image",)))
        if backup.manifest is not None:
            folder.put(backup.file + MANIFEST_END, iter((backup.manifest.to_bytes(),)))
        if backup.manifest is not None and backup.verdict is not None:
            verdict = replace(backup.verdict, id=backup.id, manifest=backup.manifest.fingerprint).signed(
                SIGNER
            )
            folder.put(backup.file + VERDICT_END, iter((verdict.to_bytes(),)))
        if backup.pin is not None:
            folder.put(backup.pin_name, iter((b"{}",)))
    return folder


def kept_by(folder: Folder, policy: Policy) -> Place:
    return Place(storage=folder, policy=policy, trusted=SIGNER.public)


def names(folder: Folder) -> set[str]:
    return set(folder.names()) - {"last_prune.json"}


@settings(max_examples=15, deadline=None)
@given(history=histories(), policy=POLICIES)
def test_k8_a_crash_at_any_step_leaves_a_catalogue_that_tells_the_truth(
    history: Sequence[Backup], policy: Policy
) -> None:
    with TemporaryDirectory() as place:
        whole = put_all(history, Path(place) / "whole")
        before = {backup.file: backup for backup in read_catalog(whole, SIGNER.public)}
        retain(kept_by(whole, policy), NOW, no_event, confirmed=True)
        for steps in count():
            folder = Dying(Path(place) / str(steps), steps)
            put_all(history, folder.path)
            try:
                retain(kept_by(folder, policy), NOW, no_event, confirmed=True)
            except Crash:
                _assert_true(Folder(folder.path), before)
            else:
                break
            retain(kept_by(Folder(folder.path), policy), NOW, no_event, confirmed=True)
            assert names(folder) == names(whole)


def _assert_true(folder: Folder, before: dict[str, Backup]) -> None:
    """Each is as it was, or gone, or an image that counts for nothing and goes with the next run."""
    marks = set(folder.names("."))
    for backup in read_catalog(folder, SIGNER.public):
        if f".{backup.file}.removing" in marks:
            assert backup == before[backup.file] or backup.state == "orphan"
        else:
            assert backup == before[backup.file]
    sweep_removals(folder, SIGNER.public)
    assert all(before[backup.file] == backup for backup in read_catalog(folder, SIGNER.public))
    assert {name for name in folder.names() if name.startswith(".")} == set()
