"""What stands at the edge of keeping backups: a file that cannot be read, a folder that takes nothing."""

import secrets
import subprocess
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from pyrage.x25519 import Identity

from obms.backup.catalog import STAMP
from obms.backup.counters import FILE, read_counters
from obms.backup.drill import _source, drill
from obms.backup.drill_report import END, PREFIX, _free_name, disbelieved, seconds_as_text
from obms.backup.encryption import Age, opens
from obms.backup.keeper import SCHEDULE, holding, is_held
from obms.backup.move import check_target
from obms.backup.prove import prove, read_facts, spool_folder, sweep_spools
from obms.backup.recipients import RECORD, remember_openers, unproven_recipients
from obms.backup.rekey import _checked, rekey
from obms.backup.restore import fit, loaded, restore, undo
from obms.backup.run import record
from obms.backup.source import resolve
from obms.backup.storage import Folder
from obms.backup.superseded import sweep_superseded
from obms.backup.undo import last_safety_backup
from obms.databases import Chunks, Database
from obms.databases.sqlite import Sqlite
from obms.databases.sqlite_snapshot import connect
from obms.errors import (
    BackupDamaged,
    BackupNotFound,
    DatabaseUnreachable,
    StorageFailed,
)
from tests.backup.conftest import Backed, add_issuer, execute, images, issuer_names, manifest_of
from tests.backup.test_journal import NOW
from tests.backup.test_restoring_faults import by_hand
from tests.deployment import Deployment
from tests.real_faults import read_only_view, wait_until


def damage_a_table(file: Path, table: str = "revocations") -> None:
    """Neither its rows nor its indexes can be read; the schema can."""
    with closing(connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        roots = "SELECT rootpage FROM sqlite_master WHERE tbl_name = ?"
        pages = [page for (page,) in connection.execute(roots, (table,))]
    content = bytearray(file.read_bytes())
    for page in pages:
        content[(page - 1) * size : page * size] = b"\xff" * size
    file.write_bytes(content)


def damaged(server: Deployment) -> Database:
    server.database.engine.dispose()
    damage_a_table(server.settings.sqlite_file)
    return server.database


@pytest.mark.parametrize("content", [b"[]", b"{", b"7"])
def test_counters_that_are_none_are_left_out_and_never_0(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert read_counters(tmp_path) == {}


def test_counters_that_cannot_be_read_are_left_out_and_never_0(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    assert read_counters(tmp_path) == {}


def test_a_report_of_a_drill_that_is_damaged_is_named(tmp_path: Path) -> None:
    name = f"{PREFIX}{NOW.strftime(STAMP)}{END}"
    (tmp_path / "drills").mkdir()
    for folder in (tmp_path, tmp_path / "drills"):
        (folder / name).write_text("{}", encoding="ascii")
    assert list(disbelieved(tmp_path, None)) == [name]


def test_two_drills_of_one_second_have_two_reports(tmp_path: Path) -> None:
    first = _free_name(Folder(tmp_path), NOW)
    (tmp_path / f"{first}{END}").touch()
    assert _free_name(Folder(tmp_path), NOW) == f"{PREFIX}{(NOW + timedelta(seconds=1)).strftime(STAMP)}"


def test_a_span_of_time_is_told_as_a_person_says_it() -> None:
    assert [seconds_as_text(span) for span in (None, 1.25, 3725.4)] == ["unknown", "1.2 s", "1:02:05"]


def test_of_a_large_image_the_beginning_tells_who_opens_it() -> None:
    identity, stranger = Identity.generate(), Identity.generate()
    coded = b"".join(Age([str(identity.to_public())], None).encode(iter([secrets.token_bytes(300_000)])))
    assert opens(identity, coded[: 1 << 16])
    assert not opens(stranger, coded[: 1 << 16])


def test_the_one_who_keeps_the_schedule_is_seen_and_there_is_no_other(tmp_path: Path) -> None:
    (tmp_path / SCHEDULE).touch()
    assert not is_held(tmp_path, SCHEDULE)
    hold, other = holding(tmp_path, SCHEDULE), holding(tmp_path, SCHEDULE)
    assert hold()
    assert hold()
    assert is_held(tmp_path, SCHEDULE)
    assert not other()


def test_where_no_lock_can_be_taken_nobody_is_seen_to_hold_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert holding(tmp_path / "file", SCHEDULE)()
    assert not is_held(tmp_path / "file", SCHEDULE)


def test_r7_a_target_that_cannot_be_read_is_not_moved_to(sqlite: Deployment, postgresql: Deployment) -> None:
    with pytest.raises(DatabaseUnreachable, match="the target"):
        check_target(postgresql.backups, damaged(sqlite))


def test_r7_a_database_that_cannot_be_proven_is_not_moved(
    stocked_sqlite: Deployment, postgresql: Deployment
) -> None:
    execute(stocked_sqlite, "UPDATE status_entries SET value = NOT value")
    url = f"{postgresql.environment['DATABASE_URL']}_moved"
    answer = stocked_sqlite.obms("move", "--to", url, "--yes")
    assert answer.code == 6, answer.err
    execute(stocked_sqlite, "DELETE FROM audit_events")  # it takes writers still


def test_r1_a_damaged_file_made_by_hand_is_refused_across_the_kinds(
    stocked_sqlite: Deployment, stocked_postgresql: Deployment, tmp_path: Path
) -> None:
    by_hand(stocked_sqlite, tmp_path / "by hand.db")
    damage_a_table(tmp_path / "by hand.db")
    before = stocked_postgresql.database.facts()
    answer = stocked_postgresql.obms("restore", str(tmp_path / "by hand.db"), "--yes")
    assert answer.code == 5, answer.err
    assert stocked_postgresql.database.facts() == before


def test_r1_a_compressed_file_made_by_hand_that_was_cut_is_refused(
    stocked_sqlite: Deployment, tmp_path: Path
) -> None:
    by_hand(stocked_sqlite, tmp_path / "x.db")
    subprocess.run(["gzip", "-1", tmp_path / "x.db"], check=True)
    (tmp_path / "cut.gz").write_bytes((tmp_path / "x.db.gz").read_bytes()[:-100])
    answer = stocked_sqlite.obms("restore", str(tmp_path / "cut.gz"), "--yes")
    assert (answer.code, "cut.gz" in answer.err) == (5, True), answer.err


def test_a_live_database_with_a_damaged_table_is_set_aside_whole(backed_sqlite: Backed) -> None:
    """There is no safety backup of what cannot be read to its end: it is kept as it is."""
    server, made = backed_sqlite
    before = server.database.facts()
    damaged(server)
    content = server.settings.sqlite_file.read_bytes()
    answer = server.obms("restore", "latest", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["id"], answer.json["safety_backup"]) == (made["id"], None)
    assert Path(answer.json["set_aside"]).read_bytes() == content
    assert server.database.facts() == before


def test_a_verdict_that_cannot_be_kept_is_loud(stocked_sqlite: Deployment, tmp_path: Path) -> None:
    made = stocked_sqlite.obms("backup", "run", "--no-prove", "--json").json
    backups, manifest = stocked_sqlite.backups, manifest_of(stocked_sqlite, made["id"])
    with read_only_view(stocked_sqlite.backup_dir, tmp_path / "view") as view:
        there = replace(backups, storage=Folder(view))
        with pytest.raises(StorageFailed, match="Read-only"):
            prove(there, manifest, level="intact")
        with pytest.raises(StorageFailed, match="Read-only"):
            record(there, backups.clock(), {}, error=None)


def test_a_folder_for_the_work_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="Not a directory"), spool_folder(tmp_path / "file" / "work"):
        raise AssertionError("there is no place to work in")


def test_what_a_killed_run_left_and_cannot_be_removed_is_told(tmp_path: Path) -> None:
    (tmp_path / "spool-abc").touch()
    with pytest.raises(StorageFailed, match="spool-abc"):
        sweep_spools(tmp_path)


def test_what_cannot_be_read_of_a_copy_is_damage_of_the_backup(stocked_sqlite: Deployment) -> None:
    with pytest.raises(BackupDamaged, match="the copy"):
        read_facts(damaged(stocked_sqlite), "the copy")


def test_a_database_that_lets_no_row_go_is_proven_without(stocked_sqlite: Deployment) -> None:
    tables = stocked_sqlite.database.facts(digests=False).rows
    for name in tables:
        refuse = f"CREATE TRIGGER keep_{name} BEFORE DELETE ON {name} BEGIN SELECT RAISE(ABORT, 'no'); END"
        execute(stocked_sqlite, refuse)
    checks = {check["name"]: check for check in stocked_sqlite.made_backup()["proof"]["checks"]}
    assert checks["refuses a lost row"]["detail"] == "there is no row that could be taken"


def test_where_the_taking_of_a_row_was_ended_from_outside_the_backup_is_not_judged(
    stocked_postgresql: Deployment,
) -> None:
    tables = stocked_postgresql.database.facts(digests=False).rows
    execute(
        stocked_postgresql,
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'ended' USING ERRCODE = 'query_canceled'; END $$",
        *(
            f"CREATE TRIGGER keep BEFORE DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION keep()"
            for name in tables
        ),
    )
    answer = stocked_postgresql.obms("backup", "run")
    assert answer.code == 6, answer.err
    assert "is not proven: unknown" in answer.err
    (listed,) = stocked_postgresql.obms("backup", "list", "--json").json
    assert (listed["proven"], listed["state"]) == (False, "unproven")


def test_an_image_without_its_manifest_is_not_encrypted_anew(backed_sqlite: Backed) -> None:
    server, made = backed_sqlite
    for end in (".json", ".proof.json"):
        (server.backup_dir / f"{made['file']}{end}").unlink()
    before = images(server)
    public = str(Identity.generate().to_public())
    (told,) = rekey(server.backups, [made["file"]], add=[public])
    assert isinstance(told.error, BackupDamaged)
    assert images(server) == before


def test_a_backup_that_was_never_judged_is_encrypted_anew_and_is_not_proven_by_that(
    stocked_sqlite: Deployment,
) -> None:
    made = stocked_sqlite.obms("backup", "run", "--no-prove", "--json").json
    (told,) = rekey(stocked_sqlite.backups, [made["id"]], add=[str(Identity.generate().to_public())])
    assert (told.changed, told.error) == (True, None)
    (listed,) = stocked_sqlite.obms("backup", "list", "--json").json
    assert (listed["file"], listed["proven"]) == (told.file, False)


def test_plain_bytes_that_are_not_those_of_the_manifest_are_not_encrypted_anew(
    backed_sqlite: Backed,
) -> None:
    server, made = backed_sqlite
    with pytest.raises(BackupDamaged, match="plain bytes"):
        list(_checked(iter([b"others"]), manifest_of(server, made["id"])))


def test_an_old_form_stays_where_the_new_one_is_not_whole(backed_sqlite: Backed) -> None:
    server, made = backed_sqlite
    (server.backup_dir / f"{made['id']}.1.db.gz.age").write_bytes(b"half")
    before = images(server)
    sweep_superseded(server.backups)
    assert images(server) == before


def test_a_name_that_no_file_can_have_is_not_found(sqlite: Deployment) -> None:
    with pytest.raises(BackupNotFound):
        resolve(sqlite.backups, "x" * 300)


def test_s4_the_schedule_ends_when_its_parent_does(sqlite: Deployment) -> None:
    arguments = ("backup", "schedule", "--until-input-ends")
    with sqlite.start_reading(subprocess.PIPE, *arguments, BACKUP_SCHEDULE="0 0 1 1 *") as process:
        _, said = process.communicate("some input\n", timeout=30)
    assert process.returncode == 143, said


def test_a_report_that_is_believed_ends_the_looking_for_others(backed_sqlite: Backed) -> None:
    server, _ = backed_sqlite
    assert server.obms("drill").code == 0
    assert list(disbelieved(server.backup_dir, server.backups.trusted)) == []
    assert len(list(disbelieved(server.backup_dir, None))) == 1


def test_a_drill_that_the_copy_does_not_answer_has_failed(backed_sqlite: Backed) -> None:
    def newest(connection: sa.Connection) -> datetime | None:
        return cast(datetime, connection.exec_driver_sql("SELECT nothing FROM nowhere").scalar())

    server, made = backed_sqlite
    done = drill(server.backups, newest)
    assert isinstance(done.error, BackupDamaged)
    assert (done.report.ok, done.report.file) == (False, made["file"])


def test_a_drill_does_not_go_on_with_half_an_image(backed_sqlite: Backed) -> None:
    server, made = backed_sqlite
    image = server.backup_dir / made["file"]
    image.write_bytes(image.read_bytes()[:-1])
    with pytest.raises(BackupDamaged, match="bytes"):
        _source(server.backups.storage, made["file"], server.backups.trusted)


def test_without_a_private_key_nobody_is_noted_to_open_an_image(stocked_sqlite: Deployment) -> None:
    public = str(Identity.generate().to_public())
    stocked_sqlite.environment["BACKUP_AGE_RECIPIENTS"] = public
    made, backups = stocked_sqlite.made_backup(), stocked_sqlite.backups
    remember_openers(backups, backups.storage, made["file"], made["id"])
    assert unproven_recipients(backups) == (public,)
    assert RECORD not in images(stocked_sqlite)


def test_an_image_that_is_read_back_otherwise_does_not_replace_the_old_one(backed_sqlite: Backed) -> None:
    class Forgetful(Folder):
        """A disk that loses the end of what is encrypted."""

        def put(self, name: str, chunks: Chunks, **asked: Any) -> None:
            whole = b"".join(chunks)
            super().put(name, iter([whole[:-1] if name.endswith(".age") else whole]), **asked)

    server, made = backed_sqlite
    before = images(server)
    backups = replace(server.backups, storage=Forgetful(server.backup_dir))
    (told,) = rekey(backups, [made["id"]], add=[str(Identity.generate().to_public())])
    assert isinstance(told.error, StorageFailed)
    assert images(server) == before


@pytest.mark.parametrize("lost", ["signing_keys", "alembic_version"])
def test_a_copy_that_lacks_what_is_asked_of_it_is_a_damaged_backup(backed_sqlite: Backed, lost: str) -> None:
    server, made = backed_sqlite
    backups = server.backups
    source = resolve(backups, made["id"])
    with loaded(backups, source, same_kind=True) as (scratch, _, _):
        assert isinstance(scratch, Sqlite)
        scratch.engine.dispose()
        with closing(connect(scratch.path)) as connection:
            connection.execute(f"DROP TABLE {lost}")
        with pytest.raises(BackupDamaged):
            fit(backups, source, scratch, accept_other_key=False)


def test_a_copy_that_cannot_be_asked_for_its_keys_is_a_damaged_backup(backed_sqlite: Backed) -> None:
    def check_keys(database: Database) -> None:
        assert isinstance(database, Sqlite)
        database.engine.dispose()
        damage_a_table(database.path, "signing_keys")
        database.facts()

    server, made = backed_sqlite
    backups = replace(server.backups, check_keys=check_keys)
    source = resolve(backups, made["id"])
    with loaded(backups, source, same_kind=True) as (scratch, _, _), pytest.raises(BackupDamaged):
        fit(backups, source, scratch, accept_other_key=False)


def test_a_live_database_that_goes_while_it_is_restored_can_be_brought_back(backed_sqlite: Backed) -> None:
    server, _ = backed_sqlite

    def lose(_copy: Database) -> None:
        wait_until(lambda: len(list(server.backup_dir.glob("*.db.gz.json"))) == 2, "the safety backup")
        server.settings.sqlite_file.unlink()

    add_issuer(server, "after the backup")
    backups = server.backups
    done = restore(replace(backups, check_keys=lose), "latest")
    assert done.safety_backup is not None
    assert last_safety_backup(backups) == done.safety_backup
    assert "after the backup" not in issuer_names(server)
    undo(backups)
    assert "after the backup" in issuer_names(server)
