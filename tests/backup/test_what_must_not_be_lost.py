"""What a restore or a backup of PostgreSQL must never lose: the live database, and those of others."""

import json
import subprocess
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import make_url

from obms.app import open_database
from obms.backup.run import run
from obms.config import read_settings
from obms.databases import Database
from obms.errors import BackupFailed
from obms.migrations import migrate
from tests.backup.conftest import Backed, assert_nothing_is_left, execute, images, lose_half
from tests.deployment import Deployment, _environment
from tests.postgres import Server, installed_programs, running_server
from tests.real_faults import dump_that, program


def server_of(deployment: Deployment) -> Server:
    assert deployment.postgres is not None
    return deployment.postgres


def name_of(deployment: Deployment) -> str:
    return str(deployment.database.engine.url.database)


def oid_of(deployment: Deployment) -> str:
    return server_of(deployment).psql(f"SELECT oid FROM pg_database WHERE datname = '{name_of(deployment)}'")


def databases(postgres: Server, start: str) -> set[str]:
    found = postgres.psql("SELECT datname FROM pg_database").splitlines()
    return {name for name in found if name.startswith(start)}


def dumped(deployment: Deployment, *options: str) -> bytes:
    """What pg_dump writes when it is called by hand."""
    postgres = server_of(deployment)
    command = [str(postgres.bin_dir / "pg_dump"), *options, name_of(deployment)]
    return subprocess.run(command, check=True, env=postgres.environment(), stdout=subprocess.PIPE).stdout


@contextmanager
def other_database(postgres: Server, folder: Path, name: str) -> Generator[Deployment]:
    """A migrated database of this name, dropped at the end with all that was put beside it."""
    environment = {
        "SECRET_KEY": "a secret key for the tests",
        "BACKUP_DIR": str(folder / "backups"),
        "BACKUP_SCHEDULE": "off",
        "DATABASE_URL": make_url(postgres.url()).set(database=name).render_as_string(hide_password=False),
    }
    folder.mkdir(exist_ok=True)
    known = databases(postgres, "")
    with _environment(environment):
        database = open_database(read_settings())
    database.create()
    migrate(database.engine)
    try:
        yield Deployment(folder=folder, environment=environment, database=database, postgres=postgres)
    finally:
        database.engine.dispose()
        for made in databases(postgres, "") - known:
            postgres.psql(f'DROP DATABASE "{made}" WITH (FORCE)')


def refuse(server: Deployment, image: bytes) -> None:
    """The file is refused, and the live database is the same one with the same rows."""
    lose_half(server)
    before, oid = server.database.facts(), oid_of(server)
    path = server.folder / "by hand.sql"
    path.write_bytes(image)
    answer = server.obms("restore", str(path), "--yes")
    assert answer.code in {5, 8}, answer.err
    assert oid_of(server) == oid
    assert server.database.facts() == before
    assert_nothing_is_left(server)


def test_a_dump_that_creates_its_database_does_not_drop_the_live_one(
    stocked_postgresql: Deployment,
) -> None:
    refuse(stocked_postgresql, dumped(stocked_postgresql, "-C", "-c", "--if-exists"))


@pytest.mark.parametrize("unlocked", [False, True])
@pytest.mark.parametrize("command", ["touch", "connect"])
def test_a_dump_that_would_run_a_program_or_turn_elsewhere_is_refused(
    stocked_postgresql: Deployment, command: str, unlocked: bool
) -> None:
    """Also where it takes back the restriction that it has put on itself."""
    server = stocked_postgresql
    mark = server.folder / "mark"
    first, last = dumped(server).split(b"\n\\unrestrict ", 1)
    key = last.strip()
    line = rf"\! touch '{mark}'" if command == "touch" else rf"\connect {name_of(server)}"
    drop = "DROP TABLE IF EXISTS credentials CASCADE;" if command == "connect" else ""
    added = f"\n{line}\n{drop}\n".encode()
    if unlocked:
        added = b"\n\\unrestrict " + key + added + b"\\restrict " + key + b"\n"
    end = first.rindex(b"--\n-- PostgreSQL database dump complete")
    refuse(server, first[:end] + added + first[end:] + b"\n\\unrestrict " + last)
    assert not mark.exists()


def test_a_plain_dump_of_an_older_pg_dump_without_restrictions_is_restored(
    stocked_postgresql: Deployment,
) -> None:
    server = stocked_postgresql
    before = server.database.facts()
    plain = b"".join(
        line
        for line in dumped(server).splitlines(keepends=True)
        if not line.startswith((b"\\restrict ", b"\\unrestrict "))
    )
    lose_half(server)
    (server.folder / "old.sql").write_bytes(plain)
    answer = server.obms("restore", str(server.folder / "old.sql"), "--yes")
    assert answer.code == 0, answer.err
    assert server.database.facts() == before


def test_a_whole_live_database_that_cannot_be_saved_is_not_replaced(backed_postgresql: Backed) -> None:
    server, _ = backed_postgresql
    lose_half(server)
    before, oid, published = server.database.facts(), oid_of(server), images(server)
    real = installed_programs()
    folder = dump_that(server.folder / "bin", real, "exit 1")
    program(folder / "psql", f'exec "{real / "psql"}" "$@"')
    answer = server.obms("restore", "latest", "--yes", PG_BIN_DIR=str(folder))
    assert answer.code == 4, answer.err
    assert oid_of(server) == oid
    assert server.database.facts() == before
    assert images(server) == published
    assert_nothing_is_left(server)


def test_a_foreign_database_under_the_name_of_the_kept_one_stays(backed_postgresql: Backed) -> None:
    server, _ = backed_postgresql
    foreign = f"{name_of(server)}_previous"
    postgres = server_of(server)
    postgres.psql(f'CREATE DATABASE "{foreign}"')
    postgres.psql("CREATE TABLE precious (n integer)", foreign)
    lose_half(server)
    before, oid = server.database.facts(), oid_of(server)
    answer = server.obms("restore", "latest", "--yes")
    assert answer.code == 8, answer.err
    assert foreign in answer.err
    assert postgres.psql("SELECT count(*) FROM precious", foreign) == "0"
    assert oid_of(server) == oid
    assert server.database.facts() == before
    assert_nothing_is_left(server)


def test_a_second_restore_leaves_one_kept_database(backed_postgresql: Backed) -> None:
    server, _ = backed_postgresql
    for _ in range(2):
        answer = server.obms("restore", "latest", "--yes")
        assert answer.code == 0, answer.err
    name = name_of(server)
    assert databases(server_of(server), name) == {name, f"{name}_previous"}


def test_databases_with_a_long_prefix_in_common_keep_apart(postgres: Server, tmp_path: Path) -> None:
    shared = f"long_{uuid4().hex}".ljust(60, "x")
    with (
        other_database(postgres, tmp_path / "a", f"{shared}_a") as first,
        other_database(postgres, tmp_path / "b", f"{shared}_b") as second,
    ):
        first.seed(12)
        first.made_backup()
        known = databases(postgres, shared[:20])
        assert first.obms("restore", "latest", "--yes").code == 0
        (kept_of_first,) = databases(postgres, shared[:20]) - known
        oid = postgres.psql(f"SELECT oid FROM pg_database WHERE datname = '{kept_of_first}'")
        second.seed(12, number=2)
        second.made_backup()
        assert second.obms("restore", "latest", "--yes").code == 0
        assert len(databases(postgres, shared[:20])) == 4
        assert postgres.psql(f"SELECT datname FROM pg_database WHERE oid = {oid}") == kept_of_first


def test_a_database_with_a_long_cyrillic_name_is_backed_up_and_restored(
    postgres: Server, tmp_path: Path
) -> None:
    with other_database(postgres, tmp_path / "c", "значок" * 5 + "ы") as server:
        server.seed(12)
        before = server.database.facts()
        server.made_backup()
        execute(server, "DELETE FROM audit_events")
        answer = server.obms("restore", "latest", "--yes")
        assert answer.code == 0, answer.err
        assert server.database.facts().rows["credentials"] == before.rows["credentials"]
        assert server.obms("restore", "latest", "--yes").code == 0


def test_the_database_named_postgres_is_restored(tmp_path: Path) -> None:
    with running_server() as postgres, other_database(postgres, tmp_path / "d", "postgres") as server:
        server.seed(12)
        before = server.database.facts()
        server.made_backup()
        execute(server, "CREATE TABLE later (n integer)")
        answer = server.obms("restore", "latest", "--yes")
        assert answer.code == 0, answer.err
        assert server.database.facts() == before


def test_a_server_that_ends_idle_transactions_is_backed_up(stocked_postgresql: Deployment) -> None:
    """The session that holds the snapshot is idle while a pg_dump that is slow to start does its work."""
    server = stocked_postgresql
    server_of(server).psql(
        f"ALTER DATABASE \"{name_of(server)}\" SET idle_in_transaction_session_timeout = '1s'"
    )
    folder = dump_that(server.folder / "bin", installed_programs(), "sleep 1.5", 'exec "$REAL" "$@"')
    program(folder / "psql", f'exec "{installed_programs() / "psql"}" "$@"')
    answer = server.obms("backup", "run", "--json", PG_BIN_DIR=str(folder))
    assert answer.code == 0, answer.err
    assert answer.json["proven"]


@dataclass(frozen=True, slots=True)
class FailsAtTheEnd:
    """A database whose snapshots turn out at their very end to have been none."""

    real: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    @contextmanager
    def _failing(self) -> Generator[Any]:
        with self.real.snapshot() as snapshot:
            yield snapshot
        raise BackupFailed(detail="the snapshot was lost")

    def snapshot(self) -> AbstractContextManager[Any]:
        return self._failing()


def test_a_snapshot_that_fails_at_its_very_end_publishes_nothing(backed: Backed) -> None:
    server, _ = backed
    published = images(server)
    database: Database = FailsAtTheEnd(server.database)
    with pytest.raises(BackupFailed, match="the snapshot was lost"):
        run(replace(server.backups, database=database))
    assert images(server) == published
    assert_nothing_is_left(server)


def test_foreign_tables_that_have_no_key_or_let_no_row_go_do_not_break_a_run(stocked: Deployment) -> None:
    execute(stocked, "CREATE TABLE stranger (n integer)", "INSERT INTO stranger VALUES (1)")
    execute(stocked, "CREATE TABLE ledger (n integer PRIMARY KEY)", "INSERT INTO ledger VALUES (1)")
    if stocked.postgres is None:
        execute(
            stocked,
            "CREATE TRIGGER keep BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'for ever'); END",
        )
    else:
        execute(
            stocked,
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RAISE EXCEPTION 'for ever'; END $$",
            "CREATE TRIGGER keep BEFORE DELETE ON ledger FOR EACH ROW EXECUTE FUNCTION keep()",
        )
    assert stocked.made_backup()["rows"]["ledger"] == 1


def test_a_restore_that_fails_at_the_switch_leaves_the_way_back_as_it_was(
    backed_postgresql: Backed,
) -> None:
    server, _ = backed_postgresql
    assert server.obms("restore", "latest", "--yes").code == 0
    record = (server.backup_dir / "last_restore.json").read_bytes()
    assert json.loads(record)["safety_backup"]
    kept = f"{name_of(server)}_previous"
    server_of(server).psql(f'COMMENT ON DATABASE "{kept}" IS NULL')
    assert server.obms("restore", "latest", "--yes").code == 8
    assert (server.backup_dir / "last_restore.json").read_bytes() == record
