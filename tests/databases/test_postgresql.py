"""What is of PostgreSQL alone: its programs, its roles, its sessions, and the rename."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from obms.databases import digests, writing
from obms.databases.postgresql import Postgresql
from obms.databases.postgresql_copy import FRAME
from obms.databases.postgresql_tools import find_tools
from obms.errors import (
    BackupDamaged,
    BackupFailed,
    DatabaseMissing,
    DatabaseUnreachable,
    GrantMissing,
    Refused,
    StorageFailed,
    ToolMissing,
)
from obms.migrations import migrate
from tests.databases.conftest import add_image, count, no_carry, take
from tests.deployment import Deployment
from tests.postgres import UNPRIVILEGED, Server, installed_programs
from tests.real_faults import dump_that, fill_disk, program, small_disk


@pytest.fixture
def live(stocked_postgresql: Deployment) -> Postgresql:
    assert isinstance(stocked_postgresql.database, Postgresql)
    return stocked_postgresql.database


EVENTS = 20_000
EVENTS_OF_A_KILOBYTE = f"""
INSERT INTO audit_events (at, actor, action, subject)
SELECT now(), repeat(md5(n::text), 45), 'made', n FROM generate_series(1, {EVENTS}) AS n
"""


@pytest.fixture
def big(live: Postgresql) -> Postgresql:
    """With a table of some tens of megabytes."""
    with writing(live.engine) as connection:
        connection.exec_driver_sql(EVENTS_OF_A_KILOBYTE)
    return live


@pytest.fixture
def role(postgres: Server) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    postgres.psql("CREATE ROLE plain LOGIN PASSWORD 'plain'")
    yield "plain"
    owned = "SELECT datname FROM pg_database WHERE datdba = 'plain'::regrole"
    for name in postgres.psql(owned).split():
        postgres.psql("REASSIGN OWNED BY plain TO postgres; DROP OWNED BY plain", name)
    postgres.psql("DROP OWNED BY plain")
    postgres.psql("DROP ROLE plain")


Elsewhere = Callable[..., Postgresql]


@pytest.fixture
def elsewhere(live: Postgresql) -> Iterator[Elsewhere]:
    """The same database by another URL or by other programs."""
    made: list[Postgresql] = []

    def make(bin_dir: Path | None = None, **change: Any) -> Postgresql:
        made.append(Postgresql(live.url.set(**change), bin_dir=bin_dir))
        return made[-1]

    yield make
    for database in made:
        database.engine.dispose()


@pytest.fixture
def as_role(elsewhere: Elsewhere, role: str) -> Postgresql:
    """The same database as a role that may only log in sees it."""
    return elsewhere(username=role, password=role)


def no_children() -> bool:
    return not [child for child in psutil.Process().children() if child.name() in ("pg_dump", "psql")]


def try_to_take(live: Postgresql) -> None:
    with live.snapshot() as snapshot:
        list(snapshot.chunks())
        snapshot.facts()


def test_b10_a_pg_dump_that_is_too_old_is_found_before_anything_is_read(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    old = program(tmp_path / "pg_dump", "echo 'pg_dump (PostgreSQL) 14.0'")
    with pytest.raises(ToolMissing, match=f"14.0 in {old}") as caught:
        try_to_take(elsewhere(bin_dir=old))
    assert "PG_BIN_DIR" in caught.value.hint


@pytest.mark.parametrize("lines", [("exit 1",), ("echo nonsense",), None])
def test_b10_a_folder_without_a_pg_dump_that_answers_is_said(
    elsewhere: Elsewhere, tmp_path: Path, lines: tuple[str, ...] | None
) -> None:
    if lines is not None:
        program(tmp_path / "pg_dump", *lines)
    with pytest.raises(ToolMissing, match="none is installed"):
        try_to_take(elsewhere(bin_dir=tmp_path))


def test_the_newest_programs_of_the_machine_are_found() -> None:
    tools = find_tools(None, at_least=18)
    assert tools.major >= 18
    assert (tools.folder / "pg_dump").is_file()


def test_b1_a_database_that_is_not_there_is_missing(elsewhere: Elsewhere) -> None:
    with pytest.raises(DatabaseMissing, match="not_there"):
        try_to_take(elsewhere(database="not_there"))


@pytest.mark.parametrize("change", [{"password": "wrong"}, {"port": 1}, {"host": "host.invalid"}])
def test_b1_what_cannot_be_reached_is_said_without_the_password(
    live: Postgresql, elsewhere: Elsewhere, change: dict[str, Any]
) -> None:
    database = elsewhere(**change)
    with pytest.raises(DatabaseUnreachable) as caught:
        try_to_take(database)
    assert str(live.url.password) not in str(caught.value)
    for use in (database.exists, database.facts, database.create, database.sweep, database.check_rights):
        with pytest.raises(DatabaseUnreachable):
            use()


def test_b2_a_pg_dump_that_is_killed_is_an_error(elsewhere: Elsewhere, tmp_path: Path) -> None:
    killed = dump_that(tmp_path, installed_programs(), '"$REAL" "$@" | head -c 2000', "kill -9 $$")
    with pytest.raises(BackupFailed, match="pg_dump was killed by signal 9"):
        try_to_take(elsewhere(bin_dir=killed))


def test_b2_a_pg_dump_that_ends_early_and_well_is_an_error(elsewhere: Elsewhere, tmp_path: Path) -> None:
    short = dump_that(tmp_path, installed_programs(), '"$REAL" "$@" | head -c 2000', "exit 0")
    with pytest.raises(BackupFailed, match="its output is not complete"):
        try_to_take(elsewhere(bin_dir=short))


def test_a_dump_that_is_given_up_half_way_ends_what_its_sessions_do(big: Postgresql) -> None:
    """They have read far ahead by then, and one of them waits for its rows to be taken."""

    def give_up() -> None:
        with big.snapshot() as snapshot:
            for chunk in snapshot.chunks():
                if len(chunk) > FRAME // 2:
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        give_up()
    assert no_children()
    assert big.facts().rows["audit_events"] == EVENTS


def test_the_rows_of_a_table_that_is_read_in_many_blocks_are_all_there(
    big: Postgresql, tmp_path: Path
) -> None:
    image = tmp_path / "image"
    with big.snapshot() as snapshot, image.open("wb") as file:
        for chunk in snapshot.chunks():
            file.write(chunk)
        facts = snapshot.facts()
        blocks = sum(block.table == "audit_events" for block in snapshot.rows.blocks)
    assert blocks > 2
    assert facts.rows["audit_events"] == EVENTS
    with big.scratch() as scratch:
        scratch.load(image)
        assert scratch.facts() == facts
        with scratch.engine.connect() as connection:
            alone = {name: digests.digest(connection, name) for name in facts.digests}
    assert alone == facts.digests


def url_of(database: Postgresql) -> str:
    return database.url.set(drivername="postgresql").render_as_string(hide_password=False)


def test_r14_without_createdb_the_grant_is_named(as_role: Postgresql) -> None:
    with pytest.raises(GrantMissing) as caught, as_role.scratch():
        raise AssertionError("this role may not make a scratch database")
    assert 'ALTER ROLE "plain" CREATEDB;' in caught.value.hint


def test_r14_a_database_of_another_owner_is_named(
    live: Postgresql, as_role: Postgresql, postgres: Server
) -> None:
    postgres.psql("ALTER ROLE plain CREATEDB")
    with pytest.raises(GrantMissing) as caught:
        as_role.check_rights()
    assert f'ALTER DATABASE "{live.name}" OWNER TO "plain";' in caught.value.hint


def test_r14_with_both_grants_nothing_is_missing(
    live: Postgresql, as_role: Postgresql, postgres: Server
) -> None:
    postgres.psql("ALTER ROLE plain CREATEDB")
    postgres.psql(f'ALTER DATABASE "{live.name}" OWNER TO plain')
    as_role.check_rights()
    with as_role.scratch() as copy:
        assert copy.facts().rows == {}


def test_r14_a_role_that_may_not_connect_to_postgres_works_through_template1(
    live: Postgresql, as_role: Postgresql, postgres: Server
) -> None:
    """R14: and where it may not connect to that either, the grant is named."""
    postgres.psql("ALTER ROLE plain CREATEDB")
    postgres.psql(f'ALTER DATABASE "{live.name}" OWNER TO plain')
    postgres.psql("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
    try:
        as_role.check_rights()
        with as_role.scratch() as copy:
            assert copy.facts().rows == {}
        postgres.psql("REVOKE CONNECT ON DATABASE template1 FROM PUBLIC")
        with pytest.raises(GrantMissing) as caught:
            as_role.check_rights()
        assert 'GRANT CONNECT ON DATABASE postgres TO "plain";' in caught.value.hint
    finally:
        postgres.psql("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
        postgres.psql("GRANT CONNECT ON DATABASE template1 TO PUBLIC")


def test_r3_what_is_in_the_way_is_replaced_as_a_whole(live: Postgresql, tmp_path: Path) -> None:
    take(live, tmp_path / "image")
    before = live.facts()
    with live.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE stranger (n int)")
        connection.exec_driver_sql("CREATE VIEW seen AS SELECT id FROM issuers")
        connection.exec_driver_sql("DELETE FROM revocations")
    with live.scratch() as copy:
        copy.load(tmp_path / "image")
        assert live.replace(copy, no_carry) is None
    assert live.facts() == before
    with live.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT to_regclass('seen')").scalar() is None


def test_the_old_database_is_kept_under_its_label(live: Postgresql, tmp_path: Path) -> None:
    take(live, tmp_path / "image")
    add_image(live, "later")
    with live.scratch() as copy:
        copy.load(tmp_path / "image")
        live.replace(copy, no_carry, label=lambda: "first")
    assert live.previous("another") is None
    previous = live.previous("first")
    assert previous is not None
    assert count(previous, "images") == 9
    assert live.replace(previous, no_carry, label=lambda: "second") is None
    assert count(live, "images") == 9
    assert live.previous("first") is None
    back = live.previous("second")
    assert back is not None
    assert count(back, "images") == 8
    for database in (previous, back):
        database.engine.dispose()


def test_a_database_that_is_not_ours_is_set_aside_whole(
    live: Postgresql, tmp_path: Path, postgres: Server
) -> None:
    take(live, tmp_path / "image")
    with live.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
    assert not live.exists()
    with live.scratch() as copy:
        copy.load(tmp_path / "image")
        aside = live.replace(copy, no_carry)
    assert aside is not None
    assert postgres.psql("SELECT count(*) FROM credentials", aside) == "30"
    assert live.exists()


def test_a_damaged_database_is_set_aside_whole(live: Postgresql, tmp_path: Path, postgres: Server) -> None:
    take(live, tmp_path / "image")
    before = live.facts()
    file = postgres.psql("SELECT pg_relation_filepath('revocations')", live.name)
    live.engine.dispose()
    postgres.stop()
    damaged = postgres.folder / "data" / file
    damaged.write_bytes(os.urandom(damaged.stat().st_size))
    postgres.start()

    def carry(old: object, _new: object) -> int:
        return len(old.exec_driver_sql("SELECT * FROM revocations").all())  # type: ignore[attr-defined]

    with live.scratch() as copy:
        copy.load(tmp_path / "image")
        aside = live.replace(copy, carry)
    assert aside is not None
    assert postgres.psql("SELECT count(*) FROM credentials", aside) == "30"
    assert live.facts() == before


def test_a_session_that_stays_makes_it_fail_and_changes_nothing(
    live: Postgresql, as_role: Postgresql, tmp_path: Path, postgres: Server
) -> None:
    """A role may not end the sessions of a superuser: the rename is given up."""
    take(live, tmp_path / "image")
    add_image(live, "later")
    postgres.psql("ALTER ROLE plain CREATEDB")
    postgres.psql(f'ALTER DATABASE "{live.name}" OWNER TO plain')
    postgres.psql("GRANT ALL ON ALL TABLES IN SCHEMA public TO plain", live.name)
    with psycopg.connect(url_of(live)) as superuser, as_role.scratch() as copy:
        superuser.execute("SELECT 1")
        copy.load(tmp_path / "image")
        with pytest.raises(Refused, match=r"a session in database .* did not end"):
            as_role.replace(copy, no_carry)
        assert superuser.execute("SELECT count(*) FROM images").fetchone() == (9,)
    assert count(live, "images") == 9


def test_a_writer_that_does_not_end_is_waited_for_and_then_said(live: Postgresql, tmp_path: Path) -> None:
    take(live, tmp_path / "image")
    live.writer_seconds = 1
    with psycopg.connect(url_of(live)) as writer, live.scratch() as copy:
        writer.execute("DELETE FROM revocations")
        copy.load(tmp_path / "image")
        with pytest.raises(DatabaseUnreachable, match="lock timeout"):
            live.replace(copy, no_carry)
        writer.rollback()
    assert count(live, "revocations") == 1


def test_sweeping_drops_what_a_killed_run_left_and_nothing_else(live: Postgresql, postgres: Server) -> None:
    left, used, foreign = (f"{live.name}_scratch_{end}" for end in ("0123abcd", "89abcdef", "of_somebody"))
    for name in (left, used, foreign):
        postgres.psql(f'CREATE DATABASE "{name}"')
    with psycopg.connect(postgres.url(used)):
        live.sweep()
    there = postgres.psql(f"SELECT datname FROM pg_database WHERE datname LIKE '{live.name}%'").split()
    assert sorted(there) == sorted([live.name, used, foreign])


def test_a_dump_with_an_error_in_it_is_damaged(live: Postgresql, tmp_path: Path) -> None:
    take(live, tmp_path / "image")
    text = (tmp_path / "image").read_text(encoding="utf-8")
    (tmp_path / "image").write_text(
        text.replace("CREATE TABLE public.users", "CREATE TABEL x"), encoding="utf-8"
    )
    with live.scratch() as copy, pytest.raises(BackupDamaged, match=r"psql ended with 3: .*syntax error"):
        copy.load(tmp_path / "image")


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.999])
def test_r1_a_dump_that_was_cut_is_damaged_before_a_row_of_it_is_loaded(
    live: Postgresql, tmp_path: Path, keep: float
) -> None:
    take(live, tmp_path / "image")
    whole_dump = (tmp_path / "image").read_bytes()
    (tmp_path / "image").write_bytes(whole_dump[: int(len(whole_dump) * keep)])
    with live.scratch() as copy:
        with pytest.raises(BackupDamaged, match="truncated"):
            copy.load(tmp_path / "image")
        assert copy.facts().rows == {}


def test_a_psql_that_is_killed_says_nothing_about_the_backup(live: Postgresql, tmp_path: Path) -> None:
    """The machine ran out of memory, say: the backup may be as good as ever."""
    take(live, tmp_path / "image")
    folder = dump_that(tmp_path / "bin", installed_programs())
    program(folder / "psql", "kill -9 $$")
    with live.scratch() as copy:
        copy.bin_dir = folder
        with pytest.raises(DatabaseUnreachable, match="psql was killed by signal 9"):
            copy.load(tmp_path / "image")


def test_a_psql_that_is_too_old_says_nothing_about_the_backup(live: Postgresql, tmp_path: Path) -> None:
    take(live, tmp_path / "image")
    folder = dump_that(tmp_path / "bin", installed_programs())
    said = "psql:<stdin>:1: error: invalid command \\restrict"
    program(folder / "psql", f"echo '{said}' >&2", "cat >/dev/null", "exit 3")
    with live.scratch() as copy:
        copy.bin_dir = folder
        with pytest.raises(Refused, match="older than its security release"):
            copy.load(tmp_path / "image")


def test_a_server_that_goes_away_says_nothing_about_the_backup(
    live: Postgresql, tmp_path: Path, postgres: Server
) -> None:
    take(live, tmp_path / "image")
    folder = dump_that(tmp_path / "bin", installed_programs())
    program(folder / "psql", "echo 'psql: error: connection to server was lost' >&2", "exit 2")
    with live.scratch() as copy:
        copy.bin_dir = folder
        with pytest.raises(DatabaseUnreachable, match=r"psql ended with 2: .*was lost"):
            copy.load(tmp_path / "image")
    assert postgres.running()


def test_r5_a_full_disk_of_the_server_says_nothing_about_the_backup(
    live: Postgresql, elsewhere: Elsewhere, tmp_path: Path, postgres: Server
) -> None:
    take(live, tmp_path / "image")
    with small_disk(postgres.folder / "small", 16 * 1024) as mounted:
        if not mounted:
            pytest.skip("only root can mount a small disk")
        shutil.chown(postgres.folder / "small", UNPRIVILEGED)
        name = f"{live.name}_on_a_small_disk"
        postgres.psql(f"CREATE TABLESPACE small LOCATION '{postgres.folder / 'small'}'")
        try:
            postgres.psql(f'CREATE DATABASE "{name}" TEMPLATE template0 TABLESPACE small')
            postgres.psql("CHECKPOINT")
            fill_disk(postgres.folder / "small", leave=600_000)
            with pytest.raises(StorageFailed, match="No space left on device"):
                elsewhere(database=name).load(tmp_path / "image")
        finally:
            (postgres.folder / "small" / "ballast").unlink(missing_ok=True)
            postgres.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            postgres.psql("DROP TABLESPACE small")


def test_no_password_is_among_the_arguments_of_a_child(
    live: Postgresql, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    take(live, tmp_path / "image")
    folder = dump_that(tmp_path / "bin", installed_programs(), f'echo "$@" >> {said}', 'exec "$REAL" "$@"')
    program(folder / "psql", f'echo "$@" >> {said}', f'exec {installed_programs() / "psql"} "$@"')
    database = elsewhere(bin_dir=folder)
    try_to_take(database)
    with database.scratch() as copy:
        copy.load(tmp_path / "image")
    text = said.read_text(encoding="utf-8")
    assert text.count(f"--dbname={live.name}") == 4
    assert str(live.url.password) not in text


def test_a_database_without_an_encoding_is_read_all_the_same(postgresql: Deployment) -> None:
    """What `initdb` makes where no locale is set: SQL_ASCII, of which the driver gives bytes."""
    assert postgresql.postgres is not None
    name = f"{postgresql.database.engine.url.database}_ascii"
    postgresql.postgres.psql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    database = Postgresql(postgresql.database.engine.url.set(database=name))
    try:
        migrate(database.engine)
        add_image(database, "Höhere Schule")
        assert count(database, "images") == 1
        assert database.exists()
    finally:
        database.engine.dispose()
        postgresql.postgres.psql(f"DROP DATABASE {name} WITH (FORCE)")
