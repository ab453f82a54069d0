"""The journal: many may write it at once, what is torn or false in it is told, and a full disk is."""

import json
import multiprocessing
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from obms.backup.journal import BEGINS, Journal, Tally
from obms.errors import KeyMissing, StorageFailed
from tests.backup.conftest import Noted
from tests.real_faults import fill_disk, small_disk

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
WRITERS, EACH = 4, 50


def opened(
    folder: Path,
    *,
    key: bytes | None = b"key",
    name: str = "ours",
    noted: Noted | None = None,
    now: datetime = NOW,
) -> Journal:
    return Journal(
        folder, key=key, key_name=name if key else None, clock=lambda: now, notify=noted or Noted()
    )


def read(journal: Journal) -> tuple[list[object], Tally]:
    tally = Tally()
    return [line.entry["id"] for line in journal.read(tally)], tally


def write_many(folder: Path, start: int) -> None:
    journal = opened(folder)
    for number in range(start, start + EACH):
        journal.append([{"id": number, "why": "é" * number}])


def test_what_several_processes_append_at_once_is_all_there_and_whole(tmp_path: Path) -> None:
    processes = [
        multiprocessing.get_context("fork").Process(target=write_many, args=(tmp_path, start * EACH))
        for start in range(WRITERS)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found, tally = read(opened(tmp_path))
    assert sorted(found, key=str) == sorted(range(WRITERS * EACH), key=str)
    assert (tally.torn, tally.damaged, tally.of_others) == (0, 0, 0)


def test_a_torn_last_line_is_told_and_the_next_one_begins_anew(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append([{"id": 1}, {"id": 2}])
    (path,) = journal.files()
    path.write_bytes(path.read_bytes()[:-20])
    assert read(journal) == ([1], Tally(lines=1, torn=1))
    journal.append([{"id": 3}])
    assert read(journal) == ([1, 3], Tally(lines=2, torn=1))


def test_a_line_that_lost_only_its_end_of_line_counts(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append([{"id": 1}])
    (path,) = journal.files()
    path.write_bytes(path.read_bytes().rstrip())
    journal.append([{"id": 2}])
    assert read(journal) == ([1, 2], Tally(lines=2))


def test_every_changed_byte_of_a_line_is_found(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append([{"id": "0123456789"}])
    (path,) = journal.files()
    whole = path.read_bytes()
    for position in range(len(whole) - 1):
        changed = bytearray(whole)
        changed[position] ^= 1
        path.write_bytes(changed)
        found, tally = read(journal)
        assert found == []
        assert tally.torn + tally.damaged == 1, position


def test_an_entry_that_another_wrote_under_our_name_is_not_believed(tmp_path: Path) -> None:
    """Its sum is right, for that anyone can make; its seal is not."""
    opened(tmp_path, key=b"another key", name="ours").append([{"id": 1}])
    assert read(opened(tmp_path)) == ([], Tally(damaged=1))


def test_an_entry_of_another_key_is_told_apart(tmp_path: Path) -> None:
    opened(tmp_path, key=b"another key", name="theirs").append([{"id": 1}])
    opened(tmp_path).append([{"id": 2}])
    for journal in (opened(tmp_path), opened(tmp_path, key=None)):
        lines = list(journal.read())
        assert [line.entry["id"] for line in lines] == [1, 2]
        assert [line.own for line in lines] == [False, journal.can_write]


def test_without_a_key_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(KeyMissing):
        opened(tmp_path, key=None).append([{"id": 1}])


def on_a_full_disk(tmp_path: Path, check: Callable[[Path], None]) -> None:
    with small_disk(tmp_path / "disk", 256) as mounted:
        if not mounted:
            pytest.skip("this user may not mount a disk")
        check(tmp_path / "disk")


def test_a_full_disk_fails_an_append_and_leaves_no_part_of_it(tmp_path: Path) -> None:
    def check(disk: Path) -> None:
        journal = opened(disk)
        journal.append([{"id": 1}])
        fill_disk(disk, leave=4096)
        with pytest.raises(StorageFailed):
            journal.append([{"id": 2, "why": "x" * 100_000}])
        assert read(journal) == ([1], Tally(lines=1))

    on_a_full_disk(tmp_path, check)


def test_what_could_not_be_kept_is_told_and_written_once_it_can_be(tmp_path: Path, noted: Noted) -> None:
    (tmp_path / "journal").write_text("something stands in the way", encoding="ascii")
    journal = opened(tmp_path / "journal", noted=noted)
    journal.keep([{"id": 1}])
    journal.keep([{"id": 2}])
    assert [event.facts["waiting"] for event in noted.named("journal.failed")] == [1, 2]
    assert journal.problem() is not None
    (tmp_path / "journal").unlink()
    assert journal.problem() is None
    assert read(journal) == ([1, 2], Tally(lines=2))


def test_a_disk_that_is_as_good_as_full_is_a_problem_before_anything_is_lost(tmp_path: Path) -> None:
    def check(disk: Path) -> None:
        assert opened(disk).problem() is None
        fill_disk(disk, leave=8192)
        assert "full" in str(opened(disk).problem())

    on_a_full_disk(tmp_path, check)


def test_days_before_the_oldest_backup_can_be_dropped_and_no_other(tmp_path: Path) -> None:
    for day in range(3):
        opened(tmp_path, now=NOW + timedelta(days=day)).append([{"id": day}])
    (tmp_path / "revocations_of-somebody.jsonl").write_text("{}\n", encoding="ascii")
    journal = opened(tmp_path)
    assert journal.drop_before(NOW + timedelta(days=1)) == ["revocations_2026-06-01.jsonl"]
    assert [line.entry for line in journal.read()] == [{"id": 1}, {"id": 2}, {BEGINS: "2026-06-02"}]
    assert (tmp_path / "revocations_of-somebody.jsonl").exists()


@pytest.mark.parametrize("line", [b"[]", b"1", b'{"sum":1}', b'{"entry":{},"key":null,"sum":"x","seal":[]}'])
def test_json_that_is_no_line_is_damage(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "revocations_2026-06-01.jsonl").write_bytes(line + b"}\n" if line[-1:] != b"}" else line)
    assert read(opened(tmp_path)) == ([], Tally(damaged=1))


def test_a_line_is_json_that_a_person_reads(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append([{"id": "é"}])
    assert json.loads(journal.files()[0].read_text(encoding="utf-8"))["entry"] == {"id": "é"}
