"""What a restore must survive: other keys, older and newer schemas, files made by hand, no terminal."""

import gzip
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command

from obms.databases.sqlite_snapshot import connect
from obms.migrations import _config, newest
from tests.backup.conftest import (
    LATER_TABLES,
    Backed,
    assert_nothing_is_left,
    be_of_the_first_schema,
    execute,
    images,
    lose_half,
)
from tests.backup.test_restoring import digests
from tests.deployment import Deployment
from tests.postgres import running_server

OTHER_KEY = {"SECRET_KEY": "the key of another machine"}
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


def by_hand(server: Deployment, target: Path) -> None:
    """The plain image as the guide's direct commands make it."""
    if server.postgres is None:
        with (
            closing(connect(Path(server.environment["SQLITE_FILE"]))) as source,
            closing(connect(target, mode="rwc")) as copy,
        ):
            source.backup(copy)
        return
    arguments = [str(server.postgres.bin_dir / "pg_dump"), str(server.database.engine.url.database)]
    with target.open("wb") as file:
        subprocess.run(arguments, check=True, stdout=file, env=server.postgres.environment())


@pytest.mark.parametrize("name", ["sqlite_backup_2026-11-22.db.gz", "postgres_backup_2026-11-22.sql.gz", "x"])
def test_r9_a_file_made_by_hand_restores_under_any_name(stocked: Deployment, name: str) -> None:
    before = digests(stocked)
    plain = stocked.folder / "plain"
    by_hand(stocked, plain)
    stocked.backup_dir.mkdir()
    path = stocked.backup_dir / name
    path.write_bytes(gzip.compress(plain.read_bytes()) if name.endswith(".gz") else plain.read_bytes())
    lose_half(stocked)
    answer = stocked.obms("restore", str(path), "--yes", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["proven"] is False
    assert "no manifest" in answer.json["checks"][0]["detail"]
    assert digests(stocked) == before


@pytest.mark.parametrize(
    "content", [b"", b"not a backup", gzip.compress(b"nor this", mtime=0), b"SQLite format 3\x00"]
)
def test_r9_what_is_no_backup_is_refused_whatever_its_name(backed: Backed, content: bytes) -> None:
    server, made = backed
    before = digests(server)
    path = server.folder / made["file"]
    path.write_bytes(content)
    answer = server.obms("restore", str(path), "--yes")
    assert answer.code in (5, 8), answer.err
    assert digests(server) == before
    assert_nothing_is_left(server)


def test_r8_a_backup_of_an_older_schema_is_brought_forward(stocked: Deployment) -> None:
    be_of_the_first_schema(stocked)
    made = stocked.obms("backup", "run", "--json")
    assert made.code == 0, made.err
    assert not made.json["rows"].keys() & {*LATER_TABLES}
    with stocked.database.engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    answer = stocked.obms("restore", "latest", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert [answer.json["rows"][name] for name in LATER_TABLES] == [0, 0, 0]
    assert stocked.database.facts().revision == newest()


def test_r8_a_backup_of_a_newer_schema_is_refused_with_the_version_it_needs(stocked: Deployment) -> None:
    execute(stocked, "UPDATE alembic_version SET version_num = '9999'")
    made = stocked.obms("backup", "run", "--no-prove", "--json").json
    execute(stocked, f"UPDATE alembic_version SET version_num = '{newest()}'")
    before = digests(stocked)
    answer = stocked.obms("restore", made["id"], "--yes")
    assert answer.code == 5
    assert "9999" in answer.err
    assert "0.1.0" in answer.err
    assert digests(stocked) == before
    assert_nothing_is_left(stocked)


def test_r11_another_secret_key_is_said_before_the_switch(backed: Backed) -> None:
    server, made = backed
    before = digests(server)
    lose_half(server)
    lost = digests(server)
    files = images(server)
    for name in ("latest", made["file"]):
        answer = server.obms("restore", name, "--yes", **OTHER_KEY)
        assert answer.code == 10, answer.err
        assert "SECRET_KEY" in answer.err
    assert server.obms("restore", "latest", "--dry-run", **OTHER_KEY).code == 10
    assert digests(server) == lost
    assert images(server) == files
    accepted = server.obms("restore", "latest", "--yes", "--accept-other-key", **OTHER_KEY)
    assert accepted.code == 0, accepted.err
    assert digests(server) == before
    assert server.obms("backup", "verify", made["id"]).code == 0


def test_r11_so_it_is_of_a_file_without_manifest(stocked: Deployment) -> None:
    before = digests(stocked)
    by_hand(stocked, stocked.folder / "plain")
    answer = stocked.obms("restore", str(stocked.folder / "plain"), "--yes", **OTHER_KEY)
    assert answer.code == 10, answer.err
    assert "--accept-other-key" in answer.err
    assert digests(stocked) == before


def test_r12_without_a_terminal_it_never_waits(backed: Backed) -> None:
    """Its input is a pipe that stays open and says nothing: to read of it would never end."""
    server, _ = backed
    before = digests(server)
    with server.start_reading(subprocess.PIPE, "restore", "latest") as restoring:
        assert restoring.wait(timeout=30) == 8
        assert restoring.stderr is not None
        assert "--yes" in restoring.stderr.read()
    assert digests(server) == before


def test_r14_a_role_that_may_not_create_databases_is_told_the_grant(backed_postgresql: Backed) -> None:
    server, _ = backed_postgresql
    assert server.postgres is not None
    name = str(server.database.engine.url.database)
    before, files = digests(server), images(server)
    server.postgres.psql(f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'a-password'")
    url = f"postgresql://{name}:a-password@{server.postgres.host}:{server.postgres.port}/{name}"
    answer = server.obms("restore", "latest", "--yes", DATABASE_URL=url)
    server.postgres.psql(f'DROP ROLE "{name}"')
    assert answer.code == 8
    assert f'ALTER ROLE "{name}" CREATEDB;' in answer.err
    assert digests(server) == before
    assert images(server) == files


def test_the_plain_image_opens_without_this_program(backed: Backed, tmp_path: Path) -> None:
    server, made = backed
    before = digests(server)
    image = tmp_path / "image"
    with image.open("wb") as file:
        subprocess.run(["gunzip", "-c", server.backup_dir / made["file"]], check=True, stdout=file)
    if server.postgres is None:
        with closing(connect(image)) as opened:
            assert opened.execute("SELECT count(*) FROM credentials").fetchone() == (30,)
            assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return
    with server.database.scratch() as empty:
        name = str(empty.engine.url.database)
        tool = [str(server.postgres.bin_dir / "psql"), "-q", "-v", "ON_ERROR_STOP=1", "-d", name]
        with image.open("rb") as file:
            subprocess.run(
                tool, check=True, stdin=file, stdout=subprocess.DEVNULL, env=server.postgres.environment()
            )
        assert dict(empty.facts().digests) == before


@pytest.mark.skipif(not DEBIAN_15.exists(), reason="needs PostgreSQL 15")
def test_a_server_of_version_15_is_backed_up_and_restored(tmp_path: Path) -> None:
    with running_server(DEBIAN_15) as server, Deployment.made(tmp_path, server) as old:
        old.seed(12)
        before = digests(old)
        assert old.made_backup()["proven"]
        lose_half(old)
        answer = old.obms("restore", "latest", "--yes", "--json")
        assert answer.code == 0, answer.err
        assert digests(old) == before
