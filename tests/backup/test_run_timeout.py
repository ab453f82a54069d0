"""B13: a run that hangs is ended after BACKUP_TIMEOUT, loudly, and the schedule goes on."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import psutil
import psycopg
import pytest

from obms.backup.child_run import run_in_child
from obms.backup.run import read_record
from obms.backup.schedule import Schedule, keep_schedule
from obms.backup.time_limit import descendants, time_limit
from obms.errors import LockHeld, RunTimedOut
from tests.backup.conftest import Backed, Noted, assert_nothing_is_left, images
from tests.backup.test_schedule import Hands
from tests.deployment import Deployment
from tests.postgres import installed_programs
from tests.real_faults import child_at_work, dump_that, program, wait_until

SECOND = timedelta(seconds=1)
# One that cannot be interrupted: SQLite does not return to Python before it is done, which is never.
DEAF = """
import subprocess, sys
from datetime import timedelta
from pysqlite3 import dbapi2 as sqlite3
from obms.backup.time_limit import time_limit
child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)
with time_limit(timedelta(seconds=1), lambda: "prove", lambda error: print(error, flush=True), grace=0.5):
    sqlite3.connect(":memory:").execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    )
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


@contextmanager
def held(server: Deployment) -> Iterator[None]:
    """Another session holds a table, so that pg_dump and the count wait for it."""
    with psycopg.connect(server.environment["DATABASE_URL"]) as other:
        other.execute("LOCK TABLE users")
        yield


def sessions(server: Deployment) -> list[str]:
    """Who is in the database, by program."""
    assert server.postgres is not None
    name = server.environment["DATABASE_URL"].rsplit("/", 1)[1]
    found = server.postgres.psql(
        f"SELECT application_name || '/' || state FROM pg_stat_activity WHERE datname = '{name}'"
    )
    return found.splitlines()


def own_children() -> list[str]:
    """What runs below this process, but for what stays: servers of the tests, Python's own tracker."""
    found = (" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True))
    return [command for command in found if not re.search("weed|fork_server|resource_tracker", command)]


def assert_recorded(server: Deployment, code: int, said: str) -> None:
    record = json.loads((server.backup_dir / "last_run.json").read_bytes())
    assert (record["ok"], record["exit_code"]) == (False, code)
    assert said in record["error"]


def test_b13_a_run_that_waits_for_a_lock_is_ended_and_leaves_nothing(backed_postgresql: Backed) -> None:
    server, _ = backed_postgresql
    before = images(server)
    with held(server):
        answer = server.obms("backup", "run", BACKUP_TIMEOUT="2s")
        wait_until(lambda: len(sessions(server)) == 1, "the end of the other sessions")
    assert answer.code == 4, answer.err
    assert "0:00:02 (BACKUP_TIMEOUT), and was at: publish" in answer.err
    assert answer.err.count("\n") == 1
    assert images(server) == before
    assert_nothing_is_left(server)
    assert_recorded(server, 4, "BACKUP_TIMEOUT")
    assert server.obms("backup", "run").code == 0


def test_b13_a_stalled_pg_dump_is_ended(stocked_postgresql: Deployment) -> None:
    server = stocked_postgresql
    # It stands still in the middle of its output, and no signal but SIGKILL moves it.
    folder = dump_that(
        server.folder / "bin",
        installed_programs(),
        "trap '' TERM",
        "head -c 3000000 /dev/zero",
        "kill -STOP $$",
    )
    answer = server.obms("backup", "run", BACKUP_TIMEOUT="2s", PG_BIN_DIR=str(folder))
    assert answer.code == 4, answer.err
    assert images(server) == []
    assert_nothing_is_left(server)
    assert_recorded(server, 4, "publish")
    assert own_children() == []


def test_b13_a_proof_that_hangs_leaves_the_backup_unproven(stocked_postgresql: Deployment) -> None:
    server = stocked_postgresql
    real = installed_programs()
    folder = program(
        server.folder / "bin" / "psql",
        f'if [ "$1" = --version ]; then exec {real}/psql --version; fi',
        "exec sleep 600",
    )
    program(server.folder / "bin" / "pg_dump", f'exec {real}/pg_dump "$@"')
    answer = server.obms("backup", "run", BACKUP_TIMEOUT="4s", PG_BIN_DIR=str(folder))
    assert answer.code == 4, answer.err
    assert "was at: prove" in answer.err
    (listed,) = server.obms("backup", "list", "--json").json
    assert (listed["state"], listed["proven"]) == ("unproven", False)
    assert_nothing_is_left(server)


def test_b13_what_a_child_has_started_is_ended_too() -> None:
    with subprocess.Popen(
        ["bash", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        assert {child.pid, grandchild} <= set(descendants(os.getpid()))
        os.kill(grandchild, signal.SIGKILL)


def test_b13_what_cannot_be_interrupted_ends_with_its_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEAF], capture_output=True, text=True, timeout=60, check=False
    )
    child, words = done.stdout.splitlines()
    assert done.returncode == 4, done.stderr
    assert "was at: prove" in words
    assert done.stderr.startswith("obms: The run was ended")
    assert done.stderr.endswith("(exit 4)\n")
    wait_until(lambda: not psutil.pid_exists(int(child)) or ended(int(child)), "the end of its child")


def ended(process: int) -> bool:
    return bool(psutil.Process(process).status() == psutil.STATUS_ZOMBIE)


def test_within_its_time_nothing_happens() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(timedelta(minutes=1), str, lambda _error: None):
        pass
    assert signal.getsignal(signal.SIGALRM) is before
    with time_limit(timedelta(), str, lambda _error: None):
        assert signal.getsignal(signal.SIGALRM) is before


@pytest.mark.slow
def test_b13_a_server_that_stands_still_does_not_hold_the_end_up(stocked_postgresql: Deployment) -> None:
    """It answers no cancellation either, so that closing the sessions hangs too: the process ends itself."""
    server, postgres = stocked_postgresql, stocked_postgresql.postgres
    assert postgres is not None
    postmaster = int((postgres.folder / "data" / "postmaster.pid").read_text(encoding="ascii").split()[0])
    with held(server), server.start("backup", "run", BACKUP_TIMEOUT="4s") as command:
        wait_until(partial(child_at_work, command.pid, "pg_dump"), "the start of pg_dump")
        processes = [psutil.Process(postmaster), *psutil.Process(postmaster).children()]
        for process in processes:
            process.suspend()
        try:
            _, errors = command.communicate(timeout=60)
        finally:
            for process in processes:
                process.resume()
    assert command.returncode == 4, errors
    assert_recorded(server, 4, "BACKUP_TIMEOUT")
    assert server.obms("backup", "run").code == 0  # which removes what was left
    assert_nothing_is_left(server)


def wait_deafly() -> None:
    with suppress(Exception):
        signal.pause()


def test_a_library_that_catches_every_exception_does_not_hold_the_end_up() -> None:
    with pytest.raises(RunTimedOut, match="was at: here"), time_limit(SECOND, lambda: "here", print):
        wait_deafly()


def test_b13_the_schedule_goes_on_after_a_run_that_hung(
    stocked_postgresql: Deployment, noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = stocked_postgresql
    for name, value in {**server.environment, "BACKUP_TIMEOUT": "3s"}.items():
        monkeypatch.setenv(name, value)
    clock = Hands(datetime(2026, 11, 22, tzinfo=UTC))
    backups = replace(server.backups, clock=clock, notify=noted, timeout=3 * SECOND)
    command = (sys.executable, "-m", "obms", "backup", "run", "--scheduled")
    with psycopg.connect(server.environment["DATABASE_URL"]) as other:
        other.execute("LOCK TABLE users")

        def start(_backups: object) -> None:
            run_in_child(backups, command)
            other.rollback()

        keep_schedule(backups, Schedule(expression="0 0 * * *"), start=start, wait=clock.wait, runs=1)
        assert_recorded(server, 4, "BACKUP_TIMEOUT")
        assert noted.named("schedule.run_failed") == []
        monkeypatch.setenv("BACKUP_TIMEOUT", "1h")
        keep_schedule(backups, Schedule(expression="0 0 * * *"), start=start, wait=clock.wait, runs=1)
    record = read_record(server.backups.storage)
    assert record is not None
    assert record.ok
    (listed,) = server.obms("backup", "list", "--json").json
    assert listed["proven"] is True


def test_b13_a_child_that_does_not_even_end_itself_is_killed(sqlite: Deployment, noted: Noted) -> None:
    backups = replace(sqlite.backups, notify=noted, timeout=SECOND)
    run_in_child(backups, (sys.executable, "-c", STUBBORN), spare=0.5)
    assert_recorded(sqlite, 4, "BACKUP_TIMEOUT")
    (told,) = noted.named("backup.run")
    assert told.ok is False
    assert own_children() == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import os; os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("raise SystemError", "ended with 1"),
        ("raise SystemExit(2)", "ended with 2"),
    ],
)
def test_a_run_that_dies_without_a_word_is_recorded_and_told(
    sqlite: Deployment, noted: Noted, script: str, said: str
) -> None:
    run_in_child(replace(sqlite.backups, notify=noted), (sys.executable, "-c", script))
    assert_recorded(sqlite, 4, said)
    assert [event.ok for event in noted.named("backup.run")] == [False]


def test_a_refused_run_is_no_failed_one(sqlite: Deployment, noted: Noted) -> None:
    with pytest.raises(LockHeld):
        run_in_child(replace(sqlite.backups, notify=noted), (sys.executable, "-c", "raise SystemExit(7)"))
    assert read_record(sqlite.backups.storage) is None
    assert noted.events == []


def test_a_run_that_could_tell_and_not_write_its_record_is_not_told_again(
    sqlite: Deployment, noted: Noted
) -> None:
    sqlite.environment["BACKUP_DIR"] = str(sqlite.folder / ("x" * 300))
    run_in_child(replace(sqlite.backups, notify=noted), (sys.executable, "-c", "raise SystemExit(9)"))
    assert noted.events == []


def test_s4_the_end_of_the_schedule_ends_its_run(stocked_postgresql: Deployment) -> None:
    """The run waits for a lock when the schedule gets SIGTERM; a missed time is why it runs at once."""
    server = stocked_postgresql
    assert server.obms("backup", "run", "--no-prove").code == 0
    before = images(server)
    record = server.backup_dir / "last_run.json"
    record.write_text('{"started_at": "2026-01-01T00:00:00+00:00", "ok": true, "exit_code": 0}', "utf-8")
    with held(server), server.start("backup", "schedule", BACKUP_SCHEDULE="0 0 * * *") as command:
        wait_until(partial(child_at_work, command.pid, "pg_dump"), "the start of pg_dump")
        children = psutil.Process(command.pid).children(recursive=True)
        command.terminate()
        command.communicate(timeout=10)
        assert command.returncode == 128 + signal.SIGTERM
        assert [child for child in children if child.is_running()] == []
    assert images(server) == before
    assert_nothing_is_left(server)
