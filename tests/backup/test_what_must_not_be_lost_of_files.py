"""What must never be lost of a SQLite file, and of the files and settings that a server is told by."""

import gzip
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from obms.backup.catalog import find
from obms.backup.run import run
from obms.backup.schedule import Schedule, keep_schedule
from obms.databases.sqlite_snapshot import connect, pin
from tests.backup.conftest import Backed, assert_nothing_is_left, images, lose_half
from tests.deployment import Deployment
from tests.real_faults import reader_that

STRESS_SECONDS = 2.0
WRITER = """
import sys
from pysqlite3 import dbapi2 as sqlite3
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
db.execute("PRAGMA synchronous=OFF")
db.execute("PRAGMA wal_autocheckpoint=50")
print("ready", flush=True)
while True:
    db.execute("UPDATE counters SET n = n + 1")
"""
HOLDER = """
import sys
from pysqlite3 import dbapi2 as sqlite3
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA locking_mode=EXCLUSIVE")
db.execute("BEGIN EXCLUSIVE")
db.execute("COMMIT")
print("ready", flush=True)
sys.stdin.read()
"""
TOTAL = "SELECT count(*), sum(n), min(n), max(n) FROM counters"


@contextmanager
def another_process(script: str, path: Path) -> Generator[None]:
    """A process that does this to the database, and has begun to."""
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            assert child.poll() is None
            child.kill()


def live_file(server: Deployment) -> Path:
    return server.folder / "data" / "openbadges.db"


def test_a_pinned_file_is_at_rest_while_others_write_and_move_frames(tmp_path: Path) -> None:
    path, copy = tmp_path / "live.db", tmp_path / "copy.db"
    with closing(connect(path, mode="rwc")) as made:
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("CREATE TABLE counters (n integer, filling blob)")
        made.execute(
            "WITH RECURSIVE rows(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM rows WHERE i < 8000)"
            " INSERT INTO counters SELECT 0, zeroblob(3500) FROM rows"
        )
    pinned = 0
    with another_process(WRITER, path), another_process(WRITER, path):
        deadline = time.monotonic() + STRESS_SECONDS
        while time.monotonic() < deadline:
            with closing(connect(path)) as reader:
                if not pin(path, reader):
                    continue
                # By a child: closing a descriptor of it here would drop SQLite's locks.
                subprocess.run(["cp", str(path), str(copy)], check=True)
                seen = reader.execute(TOTAL).fetchone()
                reader.rollback()
            with closing(connect(copy, mode="ro&immutable=1")) as copied:
                assert copied.execute(TOTAL).fetchone() == seen
                assert copied.execute("PRAGMA quick_check").fetchone() == ("ok",)
            assert seen[2] == seen[3]
            pinned += 1
    assert pinned


def test_a_whole_live_file_that_cannot_be_saved_is_not_replaced(backed_sqlite: Backed) -> None:
    server, _ = backed_sqlite
    lose_half(server)
    before, published = server.database.facts(), images(server)
    with server.start("restore", "latest", "--yes", **reader_that(server.folder, "exit 1")) as command:
        _, said = command.communicate(timeout=30)
    assert command.returncode == 4, said
    assert server.database.facts() == before
    assert images(server) == published
    assert_nothing_is_left(server)


@pytest.mark.parametrize("table", ["credentials", "revocations", "issuers"])
def test_a_live_file_with_a_damaged_table_is_still_somewhere(backed_sqlite: Backed, table: str) -> None:
    server, _ = backed_sqlite
    before = server.database.facts()
    server.database.engine.dispose()
    with closing(connect(live_file(server))) as opened:
        root = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = opened.execute(root, (table,)).fetchone()
        (size,) = opened.execute("PRAGMA page_size").fetchone()
    damaged = bytearray(live_file(server).read_bytes())
    damaged[(page - 1) * size : page * size] = os.urandom(size)
    live_file(server).write_bytes(damaged)
    answer = server.obms("restore", "latest", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert server.database.facts() == before
    if answer.json["set_aside"]:
        assert Path(answer.json["set_aside"]).read_bytes() == damaged
    else:
        saved = find(server.backups.storage, answer.json["safety_backup"], server.backups.trusted).file
        assert gzip.decompress((server.backup_dir / saved).read_bytes()) == damaged


def test_a_live_file_that_another_process_holds_is_not_taken_for_a_missing_one(
    backed_sqlite: Backed,
) -> None:
    server, _ = backed_sqlite
    lose_half(server)
    before, published = server.database.facts(), images(server)
    server.database.engine.dispose()
    inode = live_file(server).stat().st_ino
    with another_process(HOLDER, live_file(server)):
        answer = server.obms("restore", "latest", "--yes")
        names = {path.name for path in live_file(server).parent.iterdir()}
    assert answer.code == 3, answer.err
    assert live_file(server).stat().st_ino == inode
    assert {name for name in names if not name.startswith(live_file(server).name)} == set()
    assert not [name for name in names if "set-aside" in name]
    assert server.database.facts() == before
    assert images(server) == published
    assert_nothing_is_left(server)


def test_a_clock_that_was_ahead_once_hides_no_later_backup(stocked_sqlite: Deployment) -> None:
    server = stocked_sqlite
    ahead = run(replace(server.backups, clock=lambda: datetime(2036, 1, 1, tzinfo=UTC)))
    assert ahead.proven
    assert server.application.backup_health().stale
    second, third = server.made_backup(), server.made_backup()
    assert find(server.backups.storage, "latest", server.backups.trusted).id == third["id"]
    listed = [backup["id"] for backup in server.obms("backup", "list", "--json").json]
    assert listed == [third["id"], second["id"], ahead.manifest.id]
    health = server.application.backup_health()
    assert not health.stale
    assert health.age is not None
    assert timedelta() <= health.age < timedelta(minutes=5)


@pytest.mark.parametrize(
    "record",
    [
        b"{}",
        b"",
        b"garbage",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"started_at": 5, "ok": true, "exit_code": 0}',
        b'{"started_at": "0001-01-01T00:00:00+14:00", "ok": true, "exit_code": 0}',
    ],
)
def test_a_damaged_record_of_the_last_run_stops_neither_health_nor_schedule(
    sqlite: Deployment, record: bytes
) -> None:
    sqlite.backup_dir.mkdir()
    (sqlite.backup_dir / "last_run.json").write_bytes(record)
    assert sqlite.application.backup_health().last_run is None
    now = [datetime(2026, 11, 22, tzinfo=UTC)]
    started: list[datetime] = []
    keep_schedule(
        replace(sqlite.backups, clock=lambda: now[0]),
        Schedule(expression="0 0 * * *"),
        start=lambda _backups: started.append(now[0]),
        wait=lambda _seconds: now.__setitem__(0, datetime(2026, 11, 23, tzinfo=UTC)),
        runs=1,
    )
    assert started == [datetime(2026, 11, 23, tzinfo=UTC)]


@pytest.mark.parametrize("kept", [0, 1, 40, -3])
def test_a_truncated_record_of_the_last_restore_undoes_nothing(backed_sqlite: Backed, kept: int) -> None:
    server, _ = backed_sqlite
    assert server.obms("restore", "latest", "--yes").code == 0
    before = server.database.facts()
    record = server.backup_dir / "last_restore.json"
    record.write_bytes(record.read_bytes()[:kept])
    answer = server.obms("restore", "--undo", "--yes")
    assert answer.code == 2, answer.err
    assert "Traceback" not in answer.err
    assert server.database.facts() == before


@pytest.mark.parametrize(
    "password", ["left@right", "left@right:mid", "left/mid@right", "left?mid@right", "left@right/a?mid"]
)
def test_a_password_that_is_not_encoded_is_told_and_not_shown(sqlite: Deployment, password: str) -> None:
    answer = sqlite.obms("backup", "run", DATABASE_URL=f"postgresql://user:{password}@127.0.0.1:1/name")
    assert answer.code == 2, answer.err
    assert not [part for part in ("left", "right", "mid") if part in answer.out + answer.err]


def test_a_password_with_a_colon_is_not_shown_either(sqlite: Deployment) -> None:
    """Here it is plain what is meant, so that it is taken as it is: nobody listens on that port."""
    answer = sqlite.obms("backup", "run", DATABASE_URL="postgresql://user:left:right@127.0.0.1:1/name")
    assert answer.code in {2, 3}, answer.err
    assert not [part for part in ("left", "right") if part in answer.out + answer.err]
