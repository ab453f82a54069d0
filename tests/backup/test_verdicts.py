"""What is known of a backup is the most that was found out about it, and never a guess."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from obms.backup.manifest import Check
from obms.backup.prove import read_facts
from obms.backup.restore import restore
from obms.backup.run import verify
from obms.databases import Database
from obms.errors import DatabaseUnreachable
from tests.backup.conftest import Backed, execute, found
from tests.backup.test_damage import flip
from tests.deployment import Deployment
from tests.postgres import Server

CANCEL_WHO_WAITS = """
SELECT pg_cancel_backend(pid) FROM pg_locks JOIN pg_database AS d ON d.oid = database
WHERE NOT granted AND datname = current_database() AND relation = 'issuers'::regclass
"""


def is_proven(server: Deployment, id: str) -> bool:
    return found(server, id).proven


@pytest.mark.parametrize("level", ["intact", "restorable"])
def test_a_shorter_look_does_not_take_a_proof_away(backed: Backed, level: str) -> None:
    server, made = backed
    answer = server.obms("backup", "verify", made["id"], "--level", level, "--json")
    assert (answer.code, answer.json["level"]) == (0, level)
    assert is_proven(server, made["id"])


def test_a_longer_look_adds_to_a_shorter_one(stocked: Deployment) -> None:
    made = stocked.obms("backup", "run", "--no-prove", "--json").json
    assert not made["proven"]
    for level, proven in (("intact", False), ("restorable", False), ("proven", True), ("intact", True)):
        assert stocked.obms("backup", "verify", made["id"], "--level", level).code == 0
        assert is_proven(stocked, made["id"]) is proven


def test_a_shorter_look_that_finds_damage_takes_the_proof_away(backed: Backed) -> None:
    server, made = backed
    flip(server.backup_dir / made["file"], 5000)
    assert server.obms("backup", "verify", made["id"], "--level", "intact").code == 5
    assert not is_proven(server, made["id"])


def test_what_could_not_be_judged_is_not_judged(backed_postgresql: Backed, postgres: Server) -> None:
    """It is loud, and the proof of intact bytes stands."""
    server, made = backed_postgresql
    postgres.psql("CREATE ROLE looker LOGIN PASSWORD 'looker' IN ROLE pg_read_all_data")
    url = server.environment["DATABASE_URL"].replace(f"postgres:{postgres.password}", "looker:looker")
    try:
        answer = server.obms("backup", "verify", made["id"], "--json", DATABASE_URL=url)
    finally:
        postgres.psql("DROP ROLE looker")
    assert (answer.code, answer.json["outcome"], answer.json["level"]) == (6, "unknown", "intact")
    assert is_proven(server, made["id"])


def cancel(database: Database) -> list[Check]:
    """An operator cancels a statement of the application's proof."""
    with database.engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)")
    return []


def test_a_statement_that_somebody_cancelled_does_not_make_a_backup_bad(backed_postgresql: Backed) -> None:
    server, made = backed_postgresql
    verdict = verify(replace(server.backups, probe=cancel), made["id"])
    assert (verdict.outcome, verdict.level) == ("unknown", "restorable")
    assert "canceling statement" in verdict.reason
    assert is_proven(server, made["id"])


def cancelled(database: Database) -> None:
    cancel(database)


def cancel_within(server: Deployment) -> Callable[[Database], list[Check]]:
    """The application's own proof, of which an operator cancels the first statement that reads issuers."""

    def prove(copy: Database) -> list[Check]:
        with ThreadPoolExecutor(1) as beside, copy.engine.begin() as other:
            other.exec_driver_sql("LOCK TABLE issuers IN ACCESS EXCLUSIVE MODE")
            proving = beside.submit(server.backups.probe, copy)
            while not other.exec_driver_sql(CANCEL_WHO_WAITS).all():
                continue
            other.rollback()
            return proving.result()

    return prove


def test_an_answer_of_the_application_for_a_cancelled_statement_makes_no_backup_bad(
    backed_postgresql: Backed,
) -> None:
    server, made = backed_postgresql
    verdict = verify(replace(server.backups, probe=cancel_within(server)), made["id"])
    assert (verdict.outcome, verdict.level) == ("unknown", "restorable")
    assert "canceling statement" in verdict.reason
    assert is_proven(server, made["id"])


@pytest.mark.parametrize("step", ["migrate", "check_keys"])
def test_a_restore_of_which_a_statement_was_cancelled_calls_no_backup_damaged(
    backed_postgresql: Backed, step: str
) -> None:
    server, made = backed_postgresql
    before = server.database.facts()
    backups = server.backups
    if step == "migrate":
        backups = replace(backups, migrate=lambda copy, _name, _version: f"{cancel(copy)}")
    else:
        backups = replace(backups, check_keys=cancelled)
    with pytest.raises(DatabaseUnreachable, match="canceling statement"):
        restore(backups, made["id"])
    assert server.database.facts() == before
    assert is_proven(server, made["id"])


def test_the_reading_of_a_copy_that_somebody_cancelled_is_no_damage(backed_postgresql: Backed) -> None:
    server, made = backed_postgresql
    with ThreadPoolExecutor(1) as beside, server.database.engine.begin() as other:
        other.exec_driver_sql("LOCK TABLE issuers IN ACCESS EXCLUSIVE MODE")
        reading = beside.submit(read_facts, server.database, made["file"])
        while not other.exec_driver_sql(CANCEL_WHO_WAITS).all():
            continue
        with pytest.raises(DatabaseUnreachable, match="canceling statement"):
            reading.result()


def test_what_the_other_kind_cannot_hold_does_not_make_a_backup_bad(
    stocked_sqlite: Deployment, postgresql: Deployment
) -> None:
    execute(stocked_sqlite, "UPDATE achievements SET name = 'a' || char(0)")
    made = stocked_sqlite.made_backup()
    answer = postgresql.obms("backup", "verify", made["id"], "--json")
    assert (answer.code, answer.json["outcome"]) == (6, "unknown")
    assert "DB_TYPE=sqlite" in answer.err
    assert is_proven(postgresql, made["id"])
    assert postgresql.obms("backup", "verify", made["id"], "--level", "intact").code == 0


def test_a_backup_of_a_newer_program_is_not_called_bad(stocked: Deployment) -> None:
    execute(stocked, "UPDATE alembic_version SET version_num = '9999'")
    answer = stocked.obms("backup", "run", "--json")
    assert answer.code == 6
    assert "unknown" in answer.err
    assert answer.json["proof"]["level"] == "restorable"
    record = json.loads((stocked.backup_dir / "last_run.json").read_text())
    assert (record["ok"], record["exit_code"]) == (False, 6)
    assert answer.err == f"obms: {record['error']} {record['hint']} (exit 6)\n"


def test_without_the_key_a_backup_is_not_called_bad(backed: Backed) -> None:
    server, made = backed
    answer = server.obms("backup", "verify", made["id"], "--json", SECRET_KEY="another")
    assert (answer.code, answer.json["outcome"]) == (6, "unknown")
    assert is_proven(server, made["id"])


def test_a_file_without_manifest_has_nothing_to_be_judged_by(backed: Backed) -> None:
    server, made = backed
    path = server.backup_dir / made["file"]
    shutil.copy(path, server.folder / "mine.gz")
    Path(f"{path}.json").unlink()
    for name in (made["id"], str(path), str(server.folder / "mine.gz")):
        answer = server.obms("backup", "verify", name)
        assert answer.code == 5
        assert "no manifest" in answer.err


def test_a_backup_in_another_folder_is_judged_by_the_manifest_beside_it(backed: Backed) -> None:
    server, made = backed
    elsewhere = server.folder / "elsewhere"
    elsewhere.mkdir()
    for end in ("", ".json"):
        shutil.copy(server.backup_dir / f"{made['file']}{end}", elsewhere)
    answer = server.obms("backup", "verify", str(elsewhere / made["file"]), "--json")
    assert (answer.code, answer.json["level"]) == (0, "proven")
    assert (elsewhere / f"{made['file']}.proof.json").exists()
    flip(elsewhere / made["file"], 5000)
    assert server.obms("backup", "verify", str(elsewhere / made["file"])).code == 5
    assert is_proven(server, made["id"])
