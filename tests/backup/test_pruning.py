"""Removal: at the end of a proven run, by hand, and of nothing but our own files."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from obms.backup import Backups
from obms.backup.by_hand import foresee, pin, prune, unpin
from obms.backup.catalog import Backup, read_catalog
from obms.backup.lock import locked
from obms.backup.manifest import MANIFEST_END, VERDICT_END, Check
from obms.backup.prune import REMOVING_END
from obms.backup.restore import restore
from obms.backup.retain import Policy
from obms.backup.run import run
from obms.databases import Database
from obms.errors import DatabaseUnreachable, LockHeld
from tests.backup.conftest import Noted, execute
from tests.backup.test_manifest import MANIFEST, OTHER
from tests.deployment import Deployment


def at(server: Deployment, days: float, **changes: object) -> Backups:
    """The deployment's backups by a clock that is so many days from today's."""
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    return replace(server.backups, clock=lambda: moment, **changes)  # type: ignore[arg-type]


def stand_by(_copy: Database) -> list[Check]:
    """An application that finds nothing."""
    return [Check(name="application starts", ok=True, detail="1 of 1")]


def listed(server: Deployment) -> dict[str, Backup]:
    return {backup.id: backup for backup in read_catalog(server.backups.storage, server.backups.trusted)}


def contents(server: Deployment) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in server.backup_dir.iterdir() if path.is_file()}


def made(server: Deployment, *days: float) -> list[str]:
    """A proven backup of each of these days, in this order; nothing removed by that."""
    backups = (at(server, day, policy=Policy(days=None), probe=stand_by) for day in days)
    return [run(each).manifest.id for each in backups]


def test_a_proven_run_removes_what_is_too_old_and_says_so(stocked: Deployment, noted: Noted) -> None:
    old, young = made(stocked, -8, -3)
    pin(stocked.backups, young, "why")
    files = {name for name in contents(stocked) if name.startswith(old)}
    done = run(replace(stocked.backups, notify=noted))
    assert done.retained.removed == (old,)
    assert set(listed(stocked)) == {young, done.manifest.id}
    assert len(files) == 3
    assert not files & set(contents(stocked))
    (told,) = noted.named("backup.removed")
    assert told.facts == {"id": old, "reason": "removed: older than 7 days"}


def test_the_json_and_the_record_of_a_run_hold_what_was_removed(stocked_sqlite: Deployment) -> None:
    old, young = made(stocked_sqlite, -8, -3)
    answer = stocked_sqlite.made_backup()
    assert (answer["removed"], answer["held"]) == ([old], None)
    assert json.loads(contents(stocked_sqlite)["last_run.json"])["removed"] == [old]
    said = stocked_sqlite.obms("backup", "run", BACKUP_RETENTION_DAYS="1").out
    assert f"\nremoved {young}\nproven" in said


def test_k1_failing_runs_remove_nothing_however_long_they_fail(stocked: Deployment) -> None:
    made(stocked, -20, -14, -13.9)
    before = contents(stocked)
    missing = {"SQLITE_FILE": str(stocked.folder / "no.db")}
    if stocked.postgres is not None:
        missing = {"DATABASE_URL": stocked.postgres.url("no_such_database")}
    lost = replace(stocked, environment=stocked.environment | missing)
    for day in (-5, 0, 50):
        with pytest.raises(DatabaseUnreachable):
            run(at(lost, day))
    assert {name: before[name] for name in before if name != "last_run.json"}.items() <= contents(
        stocked
    ).items()


@pytest.mark.parametrize("prove_it", [True, False], ids=["bad", "unproven"])
def test_k3_a_run_that_is_not_proven_removes_nothing(stocked_sqlite: Deployment, *, prove_it: bool) -> None:
    made(stocked_sqlite, -30, -20)
    execute(stocked_sqlite, "UPDATE status_entries SET value = 1 - value")
    before = set(listed(stocked_sqlite))
    done = run(at(stocked_sqlite, 30), prove_it=prove_it)
    assert not done.proven
    assert done.retained.removed == ()
    assert before < set(listed(stocked_sqlite))


def of_another_server(id: str) -> bytes:
    """A whole manifest, signed with another key."""
    return replace(MANIFEST, id=id, file=f"{id}.db.gz").signed(OTHER).to_bytes()


def test_k2_what_is_not_ours_is_never_touched(stocked_sqlite: Deployment) -> None:
    (known,) = made(stocked_sqlite, -30)
    image = next(name for name in contents(stocked_sqlite) if name.endswith(".db.gz"))
    foreign = {
        "photos.gz": b"photos",
        "sqlite_backup_2020-01-01.db.gz": b"by hand, named like the guide does",
        "sqlite_backup_2020-01-02_00-00-00.db.gz": b"named like ours, without a manifest",
        "sqlite_backup_2020-01-03_00-00-00.db.gz": b"with somebody's JSON beside it",
        "sqlite_backup_2020-01-03_00-00-00.db.gz.json": b'{"ours": false}',
        "sqlite_backup_2020-01-04_00-00-00.db.gz": b"with our manifest of another one",
        "sqlite_backup_2020-01-04_00-00-00.db.gz.json": contents(stocked_sqlite)[image + MANIFEST_END],
        "sqlite_backup_2020-01-05_00-00-00.db.gz": b"and a mark that is not ours",
        f".sqlite_backup_2020-01-06_00-00-00.db.gz{REMOVING_END}": contents(stocked_sqlite)[
            image + MANIFEST_END
        ],
        "sqlite_backup_2020-01-06_00-00-00.db.gz": b"and the mark of another one",
        "sqlite_backup_2020-01-07_00-00-00.db.gz": b"and a backup of a server with another SECRET_KEY",
        "sqlite_backup_2020-01-07_00-00-00.db.gz.json": of_another_server(
            "sqlite_backup_2020-01-07_00-00-00"
        ),
        image + ".md5": b"beside one that goes",
    }
    for name, content in foreign.items():
        (stocked_sqlite.backup_dir / name).write_bytes(content)
    (stocked_sqlite.backup_dir / f".sqlite_backup_2020-01-05_00-00-00.db.gz{REMOVING_END}").write_bytes(b"{}")
    made_now = run(stocked_sqlite.backups)
    assert made_now.retained.removed == (known,)
    kept = {name: content for name, content in foreign.items() if not name.endswith(REMOVING_END)}
    assert kept.items() <= contents(stocked_sqlite).items()


def test_k2_what_only_looks_like_a_mark_or_a_part_of_ours_stays_and_stops_nothing(
    stocked_sqlite: Deployment,
) -> None:
    stocked_sqlite.made_backup()
    folder = stocked_sqlite.backup_dir
    foreign = ("notes.txt", ".notes.txt.begun", ".notes.txt.removing", ".mine.partial", ".mine.0123.partial")
    for name in foreign:
        (folder / name).write_bytes(b"mine")
    for name in (".x.partial", ".x.0123abcd.partial"):
        (folder / name).mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / ".link.0123abcd.partial").symlink_to("notes.txt")
    before = {path.name for path in folder.iterdir()}
    assert stocked_sqlite.obms("backup", "run").code == 0
    assert len(stocked_sqlite.obms("backup", "list", "--json").json) == 2
    assert before <= {path.name for path in folder.iterdir()}
    assert {(folder / name).read_bytes() for name in foreign} == {b"mine"}


@pytest.mark.parametrize("days", [3650, -3650])
def test_k4_a_clock_ten_years_off_loses_nothing_proven(stocked_sqlite: Deployment, days: int) -> None:
    ids = set(made(stocked_sqlite, -6, -3, -1))
    run(stocked_sqlite.backups)
    ids = set(listed(stocked_sqlite))
    for later in (0, 1, 5):
        ids.add(run(at(stocked_sqlite, days + later)).manifest.id)
    right_again = run(stocked_sqlite.backups)
    assert {id for id, backup in listed(stocked_sqlite).items() if backup.proven} == {
        *ids,
        right_again.manifest.id,
    }


def test_k4_a_leap_is_held_back_until_an_operator_accepts_it(stocked_sqlite: Deployment) -> None:
    ids = made(stocked_sqlite, -9, -1)
    for day in (3650, 3651):
        done = run(at(stocked_sqlite, day))
        assert done.retained.removed == ()
        assert "the clock has leaped" in str(done.retained.held)
    assert prune(at(stocked_sqlite, 3651)).removed == tuple(ids)


def test_k1_the_first_success_after_weeks_does_not_remove_all_that_was_good_at_once(
    stocked_sqlite: Deployment, noted: Noted
) -> None:
    ids = made(stocked_sqlite, -33, -32, -31)
    done = run(replace(stocked_sqlite.backups, notify=noted))
    assert done.retained.removed == ()
    (told,) = noted.named("backup.removal_held")
    assert "3 of the 4 proven backups" in str(told.facts["reason"])
    assert set(ids) < set(listed(stocked_sqlite))
    assert prune(stocked_sqlite.backups).removed == tuple(ids)


def test_k5_a_damaged_manifest_of_the_newest_proven_one_loses_neither(stocked_sqlite: Deployment) -> None:
    old, newest = made(stocked_sqlite, -30, -20)
    manifest = stocked_sqlite.backup_dir / (listed(stocked_sqlite)[newest].file + MANIFEST_END)
    manifest.write_bytes(manifest.read_bytes()[:-1])
    assert prune(stocked_sqlite.backups).removed == ()
    assert run(stocked_sqlite.backups).retained.removed == (old,)
    assert listed(stocked_sqlite)[newest].state == "damaged"


def test_a_backup_whose_image_is_missing_goes_by_age(stocked_sqlite: Deployment) -> None:
    (old,) = made(stocked_sqlite, -30)
    (stocked_sqlite.backup_dir / listed(stocked_sqlite)[old].file).unlink()
    assert run(stocked_sqlite.backups).retained.removed == (old,)
    assert not [name for name in contents(stocked_sqlite) if old in name]


@contextmanager
def shrunk(server: Deployment) -> Iterator[Deployment]:
    """The same server with another, smaller database, as after a wrong DATABASE_URL."""
    with Deployment.made(server.folder / "other", server.postgres) as other:
        other.seed(6)
        environment = {**other.environment, "BACKUP_DIR": str(server.backup_dir)}
        yield replace(other, folder=server.folder, environment=environment)


def test_b12_a_database_that_shrank_is_backed_up_flagged_and_removes_nothing(
    stocked: Deployment, noted: Noted
) -> None:
    old, last = made(stocked, -9, -1)
    with shrunk(stocked) as server:
        for _ in range(2):
            answer = server.made_backup()
            assert answer["removed"] == []
            assert answer["held"].startswith(f"{answer['id']} has only ")
            assert answer["held"].endswith(f" of {last}")
        record = json.loads(contents(server)["last_run.json"])
        assert (record["ok"], record["held"]) == (True, answer["held"])
        done = run(replace(server.backups, notify=noted))
    (told,) = noted.named("backup.removal_held")
    assert not told.ok
    assert told.facts["reason"] == done.retained.held
    assert {old, last} <= set(listed(stocked))


def test_b12_an_operator_releases_what_is_held_back(stocked_sqlite: Deployment) -> None:
    old, last = made(stocked_sqlite, -9, -1)
    with shrunk(stocked_sqlite) as server:
        assert server.obms("backup", "run").out.count("NOTHING IS REMOVED: ") == 1
        refused = server.obms("backup", "prune")
        assert refused.code == 8
        assert "this would remove 1 backups and accept that sqlite_backup" in refused.err
        assert "\nheld back: sqlite_backup" in server.obms("backup", "prune", "--dry-run").out
        accepted, removed = server.obms("backup", "prune", "--yes").out.splitlines()
        assert accepted.endswith(f" of {last}")
        assert removed == f"removed {old}"
        assert server.made_backup()["held"] is None
    assert last in listed(stocked_sqlite)


def test_b12_it_is_released_by_a_backup_that_is_as_large_again(stocked_sqlite: Deployment) -> None:
    (old,) = made(stocked_sqlite, -9)
    with shrunk(stocked_sqlite) as server:
        assert server.made_backup()["held"] is not None
    answer = stocked_sqlite.made_backup()
    assert (answer["held"], answer["removed"]) == (None, [old])


def test_b12_a_shrunk_one_that_was_proven_later_holds_back_too(stocked_sqlite: Deployment) -> None:
    made(stocked_sqlite, -9, -1)
    with shrunk(stocked_sqlite) as server:
        later = server.obms("backup", "run", "--no-prove", "--json").json
        assert server.obms("backup", "verify", later["id"]).code == 0
        assert " has only " in server.made_backup()["held"]


def test_the_safety_backup_that_undo_needs_stays(stocked: Deployment) -> None:
    made(stocked, -40)
    first = restore(at(stocked, -31), "latest").safety_backup
    needed = restore(at(stocked, -30), "latest").safety_backup
    assert first
    assert needed
    removed = run(stocked.backups).retained.removed
    assert first in removed
    assert needed not in removed
    assert foresee(stocked.backups).plan.reasons[listed(stocked)[needed].file] == (
        "kept: `obms restore --undo` needs it"
    )
    assert stocked.obms("restore", "--undo", "--yes").code == 0


@pytest.mark.parametrize("record", [b"{", b"[]", b'{"x": 1}'])
def test_all_safety_backups_stay_where_their_record_cannot_be_read(
    stocked_sqlite: Deployment, record: bytes
) -> None:
    made(stocked_sqlite, -40)
    safety = {restore(at(stocked_sqlite, day), "latest").safety_backup for day in (-31, -30)}
    (stocked_sqlite.backup_dir / "last_restore.json").write_bytes(record)
    run(stocked_sqlite.backups)
    assert safety <= set(listed(stocked_sqlite))


def test_a_restore_that_replaced_nothing_needs_no_safety_backup(stocked_sqlite: Deployment) -> None:
    made(stocked_sqlite, -40)
    safety = restore(at(stocked_sqlite, -30), "latest").safety_backup
    (stocked_sqlite.backup_dir / "last_restore.json").write_text('{"safety_backup": null}', encoding="ascii")
    assert safety in run(stocked_sqlite.backups).retained.removed


def test_a_storage_that_fails_while_removing_is_loud_and_the_backup_stands(
    stocked_sqlite: Deployment,
) -> None:
    (old,) = made(stocked_sqlite, -9)
    image = stocked_sqlite.backup_dir / listed(stocked_sqlite)[old].file
    image.unlink()
    image.mkdir()  # a folder cannot be unlinked, whoever asks
    answer = stocked_sqlite.obms("backup", "run", "--json")
    assert answer.code == 9
    record = json.loads(contents(stocked_sqlite)["last_run.json"])
    assert (record["ok"], record["proven"], record["exit_code"]) == (False, True, 9)
    assert listed(stocked_sqlite)[record["id"]].proven
    image.rmdir()
    assert stocked_sqlite.obms("backup", "run").code == 0
    assert not [name for name in contents(stocked_sqlite) if old in name]


def test_removal_waits_for_nobody(stocked_sqlite: Deployment) -> None:
    with locked(stocked_sqlite.backups):
        for act in (prune, lambda backups: pin(backups, "latest"), lambda backups: unpin(backups, "latest")):
            with pytest.raises(LockHeld):
                act(stocked_sqlite.backups)


def test_a_dry_run_touches_nothing_and_tells_why(stocked_sqlite: Deployment) -> None:
    old, newest = made(stocked_sqlite, -30, -20)
    before = contents(stocked_sqlite)
    answer = stocked_sqlite.obms("backup", "prune", "--dry-run", "--json").json
    assert [(row["id"], row["verdict"], row["reason"]) for row in answer["backups"]] == [
        (newest, "keep", "kept: the newest proven"),
        (old, "remove", "removed: older than 7 days"),
    ]
    assert (answer["held"], answer["removed"]) == (None, [])
    assert (
        f"{old}  proven    removed: older than 7 days\n"
        in stocked_sqlite.obms("backup", "prune", "--dry-run").out
    )
    assert contents(stocked_sqlite) == before


def test_a_prune_by_hand_needs_a_word_unless_there_is_nothing_to_do(stocked_sqlite: Deployment) -> None:
    assert stocked_sqlite.obms("backup", "prune", "--dry-run").out == "There is no backup yet.\n"
    old, newest = made(stocked_sqlite, -30, -20)
    assert stocked_sqlite.obms("backup", "prune").code == 8
    assert set(listed(stocked_sqlite)) == {old, newest}
    assert stocked_sqlite.obms("backup", "prune", "--yes", "--json").json["removed"] == [old]
    assert stocked_sqlite.obms("backup", "prune").out == "nothing is to be removed\n"


def test_a_pin_is_shown_and_taken_away(stocked_sqlite: Deployment) -> None:
    old, newest = made(stocked_sqlite, -30, -20)
    pinned = stocked_sqlite.obms("backup", "pin", old, "--reason", "before the move", "--json").json
    assert (pinned["id"], pinned["pinned"]) == (old, True)
    assert [row["pinned"] for row in stocked_sqlite.obms("backup", "list", "--json").json] == [False, True]
    assert "  pinned\n" in stocked_sqlite.obms("backup", "list").out
    shown = stocked_sqlite.obms("backup", "show", old, "--json").json
    assert shown["pin"]["reason"] == "before the move"
    assert run(stocked_sqlite.backups).retained.removed == (newest,)
    assert stocked_sqlite.obms("backup", "unpin", old).out == f"{old} is not pinned\n"
    assert stocked_sqlite.obms("backup", "unpin", old).code == 0
    assert run(stocked_sqlite.backups).retained.removed == (old,)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"reason": "x", "pinned_at": 1}', b"\xff", b"[" * 100_000]
)
def test_a_damaged_pin_pins_all_the_same(stocked_sqlite: Deployment, content: bytes) -> None:
    (old,) = made(stocked_sqlite, -30)
    (stocked_sqlite.backup_dir / pin(stocked_sqlite.backups, old).pin_name).write_bytes(content)
    assert run(stocked_sqlite.backups).retained.removed == ()
    assert stocked_sqlite.obms("backup", "show", old, "--json").json["pinned"] is True


def test_what_is_not_there_cannot_be_pinned(sqlite: Deployment) -> None:
    assert sqlite.obms("backup", "pin", "nothing").code == 2
    assert sqlite.obms("backup", "unpin", "latest").code == 2


@pytest.mark.parametrize(
    ("days", "removed"), [("0", [-30, -3, -1]), ("1", [-30, -3]), ("7", [-30]), ("off", []), ("OFF", [])]
)
def test_the_days_of_the_setting(stocked_sqlite: Deployment, days: str, removed: list[int]) -> None:
    ids = dict(zip([-30, -3, -1, -0.5], made(stocked_sqlite, -30, -3, -1, -0.5), strict=True))
    answer = stocked_sqlite.obms("backup", "prune", "--yes", "--json", BACKUP_RETENTION_DAYS=days)
    assert answer.json["removed"] == [ids[day] for day in removed if (day, days) != (-1, "1")]


@pytest.mark.parametrize("days", ["-1", "soon", "1.5", "7d", "100001"])
def test_days_that_are_none_are_a_wrong_configuration(sqlite: Deployment, days: str) -> None:
    answer = sqlite.obms("backup", "prune", "--yes", BACKUP_RETENTION_DAYS=days)
    assert answer.code == 2
    assert "BACKUP_RETENTION_DAYS" in answer.err


def test_the_buckets_of_the_settings(stocked_sqlite: Deployment) -> None:
    made(stocked_sqlite, -800, -720, -400, -70, -40, -9, -8, 0)
    asked = {"DAILY": "2", "WEEKLY": "3", "MONTHLY": "3", "YEARLY": "3"}
    names = {f"BACKUP_KEEP_{name}": count for name, count in asked.items()}
    rows = stocked_sqlite.obms(
        "backup", "prune", "--dry-run", "--json", BACKUP_RETENTION_DAYS="0", **names
    ).json["backups"]
    told = " ".join(row["reason"] for row in rows)
    for rule in ("daily 2 of 2", "monthly 3 of 3", "yearly 3 of 3"):
        assert rule in told
    assert rows[-1]["verdict"] == "remove"


def test_a_backup_that_goes_while_the_catalogue_is_read_is_not_listed(stocked_sqlite: Deployment) -> None:
    first, second = made(stocked_sqlite, -2, -1)
    catalog = read_catalog(stocked_sqlite.backups.storage, stocked_sqlite.backups.trusted)
    assert next(catalog).id == second
    for end in (MANIFEST_END, VERDICT_END, ""):
        (stocked_sqlite.backup_dir / f"{first}.db.gz{end}").unlink()
    assert list(catalog) == []
