"""Which file stands where after a restore, and what who has the old one open gets to see."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from obms.databases.sqlite import Sqlite
from obms.errors import StorageFailed
from tests.databases.conftest import add_image, count, no_carry, take
from tests.deployment import Deployment

# Another process, with the SQLite of Python: it does each line that it is sent, and answers it.
STRANGER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=float(sys.argv[2]), isolation_level=None)
print("open", flush=True)
for line in sys.stdin:
    try:
        print(database.execute(line).fetchone(), flush=True)
    except sqlite3.Error as error:
        print(error, flush=True)
"""
# The same with the engine of this program.
OURS = """
import sys, pathlib
from obms.databases.sqlite import Sqlite
database = Sqlite(pathlib.Path(sys.argv[1]), work=pathlib.Path(sys.argv[2]))
print("open", flush=True)
for line in sys.stdin:
    with database.engine.connect() as connection:
        print(connection.exec_driver_sql(line).one(), flush=True)
"""
COUNT = "SELECT count(*) FROM images"
ADD = "INSERT INTO images SELECT 'new', 'new', media_type, content, created_at FROM images LIMIT 1"


class Other:
    """A process that has a database open, or is about to."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, statement: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(statement + "\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def says(self, statement: str) -> str:
        self.ask(statement)
        return self.answer()


@contextmanager
def other(program: str, *arguments: object) -> Iterator[Other]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            found = Other(process)
            assert found.answer() == "open"
            yield found
        finally:
            process.kill()


@pytest.fixture
def live(stocked_sqlite: Deployment, tmp_path: Path) -> Sqlite:
    """A database with eight pictures in its image, and a ninth added since."""
    assert isinstance(stocked_sqlite.database, Sqlite)
    take(stocked_sqlite.database, tmp_path / "image")
    add_image(stocked_sqlite.database, "later")
    return stocked_sqlite.database


def inode(live: Sqlite) -> int:
    return live.path.stat().st_ino


def test_a_file_that_nobody_has_open_is_put_in_the_place_of_the_old_one(live: Sqlite, tmp_path: Path) -> None:
    live.path.chmod(0o640)
    with live.scratch() as copy:
        copy.load(tmp_path / "image")
        fresh = copy.path.stat().st_ino
        assert live.replace(copy, no_carry) is None
    assert inode(live) == fresh
    assert live.path.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in live.path.parent.iterdir()] == [live.path.name]
    assert (count(live, "images"), live.problems()) == (8, ())


def test_r6_a_database_that_another_process_has_open_is_written_into(live: Sqlite, tmp_path: Path) -> None:
    before = inode(live)
    with other(STRANGER, live.path, 10) as stranger:
        assert stranger.says(COUNT) == "(9,)"
        with live.scratch() as copy:
            copy.load(tmp_path / "image")
            live.replace(copy, no_carry)
        assert stranger.says(COUNT) == "(8,)"
        assert stranger.says(ADD) == "None"
    assert inode(live) == before
    assert (count(live, "images"), live.problems()) == (9, ())


def test_nobody_gets_in_between(live: Sqlite, tmp_path: Path) -> None:
    """One that opened the old file and comes too late finds no database, rather than writing into nowhere."""
    with other(STRANGER, live.path, 0) as stranger, live.scratch() as copy:

        def carry(_old: sa.Connection, _new: sa.Connection) -> int:
            assert stranger.says(COUNT) == "database is locked"
            return 0

        copy.load(tmp_path / "image")
        live.replace(copy, carry)
        assert stranger.says(COUNT) == stranger.says(ADD) == "file is not a database"
        add_image(live, "another")
        assert "not a database" in stranger.says(ADD)
    assert (count(live, "images"), live.problems()) == (9, ())


def test_a_server_that_connects_meanwhile_gets_the_new_file(live: Sqlite, tmp_path: Path) -> None:
    with other(OURS, live.path, tmp_path) as server, live.scratch() as copy:

        def carry(_old: sa.Connection, _new: sa.Connection) -> int:
            server.ask(COUNT)
            return 0

        copy.load(tmp_path / "image")
        live.replace(copy, carry)
        assert server.answer() == "(8,)"
    assert live.problems() == ()


def test_after_a_restore_that_failed_others_get_in_again(live: Sqlite, tmp_path: Path) -> None:
    before = inode(live)

    def carry(_old: sa.Connection, _new: sa.Connection) -> int:
        raise StorageFailed(detail="the disk is full")

    with live.overtaken(), other(STRANGER, live.path, 0) as stranger:
        with live.scratch() as copy:
            copy.load(tmp_path / "image")
            with pytest.raises(StorageFailed):
                live.replace(copy, carry)
        assert stranger.says(ADD) == "None"
    assert (inode(live), count(live, "images"), live.problems()) == (before, 10, ())


def test_a_file_with_two_names_stays_one_file(live: Sqlite, tmp_path: Path) -> None:
    twin = live.path.with_name("twin.db")
    twin.hardlink_to(live.path)
    with live.scratch() as copy:
        copy.load(tmp_path / "image")
        live.replace(copy, no_carry)
    assert twin.stat().st_ino == inode(live)
    assert count(live, "images") == 8
