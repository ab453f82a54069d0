"""R7: a backup of the other kind of database is restored across, and shown equal by the digests."""

import gzip
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from obms.backup.restore import loaded
from obms.backup.source import resolve
from obms.backup.spelling import require_same_spelling
from obms.databases import writing
from obms.databases.sqlite import Sqlite
from obms.databases.sqlite_snapshot import connect
from obms.schema import audit_events, images
from tests.backup.conftest import (
    LATER_TABLES,
    Backed,
    assert_nothing_is_left,
    be_of_the_first_schema,
    execute,
    issuer_names,
    lose_half,
)
from tests.backup.test_restoring import checks, digests, is_revoked, revoke, some_credential
from tests.databases.conftest import MOMENT, give_pages_of
from tests.deployment import Deployment

Pair = tuple[Deployment, Deployment]


@pytest.fixture(params=["to postgresql", "to sqlite"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """A server with badges, and an empty one on the other kind of database with the same backup folder."""
    names = (
        ("stocked_sqlite", "postgresql")
        if request.param == "to postgresql"
        else ("stocked_postgresql", "sqlite")
    )
    source, target = map(request.getfixturevalue, names)
    return source, target


@pytest.mark.parametrize("proven", [True, False], ids=["proven", "not proven"])
def test_r7_a_backup_of_the_other_kind_is_restored_across_and_shown_equal(pair: Pair, proven: bool) -> None:
    source, target = pair
    made = source.obms("backup", "run", "--json", *(() if proven else ("--no-prove",))).json
    answer = target.obms("restore", made["id"], "--yes", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["database"] == target.database.kind
    assert answer.json["rows"] == made["rows"]
    assert checks(answer)["digests"]["ok"]
    assert digests(target) == digests(source)
    assert_nothing_is_left(target)
    assert target.made_backup()["rows"] == made["rows"]


def test_r7_an_older_file_with_smaller_pages_takes_in_what_comes_from_postgresql(
    stocked_postgresql: Deployment, sqlite: Deployment
) -> None:
    assert isinstance(sqlite.database, Sqlite)
    give_pages_of(sqlite.database, 4096)
    made = stocked_postgresql.obms("backup", "run", "--no-prove", "--json").json
    answer = sqlite.obms("restore", made["id"], "--yes", "--json")
    assert answer.code == 0, answer.err
    assert digests(sqlite) == digests(stocked_postgresql)


@pytest.mark.parametrize("proven", [True, False], ids=["proven", "not proven"])
def test_r7_json_that_was_spelled_by_hand_is_named_with_its_row(
    stocked_sqlite: Deployment, postgresql: Deployment, proven: bool
) -> None:
    sqlite = stocked_sqlite
    with sqlite.database.engine.connect() as connection:
        id = connection.exec_driver_sql("SELECT max(id) FROM issuers").scalar_one()
    execute(sqlite, f"UPDATE issuers SET extra = '{{\"a\":1}}' WHERE id = '{id}'")
    made = sqlite.obms("backup", "run", "--json", *(() if proven else ("--no-prove",))).json
    answer = postgresql.obms("restore", made["id"], "--yes")
    assert answer.code == 8, answer.err
    assert f"issuers row {id}: its extra is not spelled" in answer.err
    execute(sqlite, f"UPDATE issuers SET extra = '{{\"a\": 1}}' WHERE id = '{id}'")
    assert postgresql.obms("restore", sqlite.made_backup()["id"], "--yes").code == 0


def test_r7_rows_that_are_equal_or_missing_are_not_blamed_for_a_digest(
    stocked_sqlite: Deployment, postgresql: Deployment
) -> None:
    """What was lost on the way is damage, and is told as that."""
    sqlite = stocked_sqlite
    made, file = sqlite.made_backup(), Path(sqlite.environment["SQLITE_FILE"])
    backups = replace(sqlite.backups, database=postgresql.database)
    with loaded(backups, resolve(backups, made["id"]), same_kind=False) as (scratch, facts, _):
        wrong = {**facts.digests, "revocations": "0" * 32}
        require_same_spelling(file, scratch, facts, wrong)
        execute(sqlite, "DELETE FROM revocations")
        require_same_spelling(file, scratch, facts, wrong)


def test_r7_what_was_revoked_later_stays_so_and_there_is_a_way_back(pair: Pair) -> None:
    """R10 across the kinds: the target has moved on since the backup of the other kind was made."""
    source, target = pair
    first = source.obms("backup", "run", "--no-prove", "--json").json
    assert target.obms("restore", first["id"], "--yes").code == 0
    revoked = some_credential(target)
    revoke(target, revoked)
    lose_half(target)
    before = digests(target)
    answer = target.obms("restore", first["id"], "--yes", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["revocations_kept"] == 1
    assert answer.json["rows"]["credentials"] == first["rows"]["credentials"]
    assert is_revoked(target, revoked)
    undone = target.obms("restore", "--undo", "--yes", "--json")
    assert undone.json["id"] == answer.json["safety_backup"]
    assert digests(target) == before


def test_r7_it_is_refused_where_the_same_kind_is_asked_for(pair: Pair) -> None:
    source, target = pair
    made = source.obms("backup", "run", "--no-prove", "--json").json
    before = digests(target)
    for also in ("--yes", "--dry-run"):
        answer = target.obms("restore", made["id"], "--same-kind", also)
        assert answer.code == 8
        assert f"DB_TYPE={source.database.kind}" in answer.err
    assert digests(target) == before
    assert source.obms("restore", made["id"], "--same-kind", "--yes").code == 0


def test_r7_a_dry_run_tells_that_it_would_go_across(pair: Pair) -> None:
    source, target = pair
    made = source.obms("backup", "run", "--no-prove", "--json").json
    answer = target.obms("restore", made["id"], "--dry-run", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["database"] == source.database.kind
    assert f"scratch {target.database.kind}" in answer.json["steps"][0]
    assert "digests" in answer.json["steps"][0]


def test_r7_a_backup_of_the_other_kind_is_proven_here_too(pair: Pair) -> None:
    source, target = pair
    made = source.obms("backup", "run", "--no-prove", "--json").json
    answer = target.obms("backup", "verify", made["id"], "--json")
    assert (answer.code, answer.json["level"]) == (0, "proven"), answer.err
    assert f"the rows of the {source.database.kind} image" in checks(answer)["loads"]["detail"]
    assert checks(answer)["digests"]["ok"]


def test_r7_a_file_made_by_hand_goes_across(pair: Pair, tmp_path: Path) -> None:
    """R9 across the kinds: it has no manifest, and SQLite's own content still tells its digests."""
    source, target = pair
    path = tmp_path / "by hand"
    with source.database.snapshot() as snapshot:
        path.write_bytes(gzip.compress(b"".join(snapshot.chunks())))
        snapshot.facts()
    answer = target.obms("restore", str(path), "--yes", "--json")
    assert answer.code == 0, answer.err
    assert ("digests" in checks(answer)) == (source.database.kind == "sqlite")
    assert digests(target) == digests(source)


def test_r8_an_image_of_an_older_schema_is_brought_forward_across(pair: Pair) -> None:
    source, target = pair
    be_of_the_first_schema(source)
    made = source.obms("backup", "run", "--no-prove", "--json").json
    answer = target.obms("restore", made["id"], "--yes", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["rows"] == made["rows"] | dict.fromkeys(LATER_TABLES, 0)
    assert "revision 0001" in checks(answer)["schema"]["detail"]


def test_r8_an_image_of_a_newer_schema_is_refused_across(pair: Pair) -> None:
    source, target = pair
    execute(source, "UPDATE alembic_version SET version_num = '9999'")
    made = source.obms("backup", "run", "--no-prove", "--json").json
    before = digests(target)
    answer = target.obms("restore", made["id"], "--yes")
    assert answer.code == 5
    assert "newer than this program knows" in answer.err
    assert made["file"] in answer.err
    assert digests(target) == before
    assert_nothing_is_left(target)


def test_r7_numbers_go_on_after_the_highest(pair: Pair) -> None:
    source, target = pair
    event = {"at": MOMENT, "actor": "test", "action": "number", "subject": "x"}
    with writing(source.database.engine) as connection:
        connection.execute(sa.insert(audit_events), {**event, "id": 2**40})
    made = source.obms("backup", "run", "--no-prove", "--json").json
    assert target.obms("restore", made["id"], "--yes").code == 0
    with writing(target.database.engine) as connection:
        found = connection.execute(sa.insert(audit_events).returning(audit_events.c.id), event)
        assert found.scalar_one() == 2**40 + 1


def add_image(server: Deployment, content: bytes) -> None:
    row = {"id": "big", "name": "big", "media_type": "image/png", "content": content, "created_at": MOMENT}
    with writing(server.database.engine) as connection:
        connection.execute(sa.insert(images), row)


def test_r7_the_largest_image_goes_across(pair: Pair) -> None:
    source, target = pair
    content = bytes(range(256)) * (5 * 1024 * 4)
    add_image(source, content)
    made = source.obms("backup", "run", "--no-prove", "--json").json
    assert target.obms("restore", made["id"], "--yes").code == 0
    with target.database.engine.connect() as connection:
        assert (
            connection.execute(sa.select(images.c.content).where(images.c.id == "big")).scalar_one()
            == content
        )


NOT_HELD = {
    "a NUL in text": ("UPDATE issuers SET name = 'a' || char(0) || 'b'", "name"),
    "a NUL in JSON": ("""UPDATE issuers SET extra = '{"a": "\\u0000"}'""", "extra"),
    "half of a surrogate pair": ("""UPDATE issuers SET extra = '{"a": "\\ud800"}'""", "extra"),
    "a time": ("UPDATE issuers SET updated_at = 'whenever'", "updated_at"),
}


@pytest.mark.parametrize("fault", NOT_HELD)
def test_r7_what_postgresql_cannot_hold_is_named_before_the_switch(
    stocked_sqlite: Deployment, postgresql: Deployment, fault: str
) -> None:
    statement, column = NOT_HELD[fault]
    with stocked_sqlite.database.engine.connect() as connection:
        rows = "SELECT id FROM issuers ORDER BY rowid LIMIT 1 OFFSET 1"
        id = connection.exec_driver_sql(rows).scalar_one()
    execute(stocked_sqlite, f"{statement} WHERE id = '{id}'")
    made = stocked_sqlite.obms("backup", "run", "--no-prove", "--json").json
    before = digests(postgresql)
    answer = postgresql.obms("restore", made["id"], "--yes")
    assert answer.code == 8, answer.err
    assert f"issuers row {id}, column {column}" in answer.err
    assert digests(postgresql) == before
    assert_nothing_is_left(postgresql)
    verdict = postgresql.obms("backup", "verify", made["id"], "--json")
    assert (verdict.code, verdict.json["outcome"]) == (6, "unknown")


def test_r7_what_sqlite_cannot_hold_is_named_before_the_switch(
    stocked_postgresql: Deployment, sqlite: Deployment
) -> None:
    execute(stocked_postgresql, "UPDATE issuers SET updated_at = 'infinity'")
    with stocked_postgresql.database.engine.connect() as connection:
        ids = set(connection.exec_driver_sql("SELECT id FROM issuers").scalars())
    made = stocked_postgresql.obms("backup", "run", "--no-prove", "--json").json
    answer = sqlite.obms("restore", made["id"], "--yes")
    assert answer.code == 8
    assert any(
        f"issuers row {id}, column updated_at: SQLite cannot hold the time" in answer.err for id in ids
    )
    assert issuer_names(sqlite) == set()


@pytest.mark.parametrize("change", ["CREATE TABLE notes (a text)", "ALTER TABLE issuers ADD COLUMN a text"])
def test_r7_nothing_is_left_behind_in_silence(pair: Pair, change: str) -> None:
    source, target = pair
    execute(source, change)
    made = source.obms("backup", "run", "--no-prove", "--json").json
    answer = target.obms("restore", made["id"], "--yes")
    assert answer.code == 8, answer.err
    assert ("notes" if "notes" in change else "issuers") in answer.err
    assert_nothing_is_left(target)


def test_r7_a_missing_table_is_damage(pair: Pair) -> None:
    source, target = pair
    execute(source, "DROP TABLE audit_events")
    made = source.obms("backup", "run", "--no-prove", "--json").json
    answer = target.obms("restore", made["id"], "--yes")
    assert answer.code == 5, answer.err
    assert "audit_events" in answer.err


def test_r7_a_sqlite_image_that_is_whole_but_wrong_is_damage(
    stocked_sqlite: Deployment, postgresql: Deployment
) -> None:
    """A reference that leads nowhere is found before PostgreSQL's foreign keys would find it."""
    with closing(connect(Path(stocked_sqlite.environment["SQLITE_FILE"]))) as connection:
        connection.execute("DELETE FROM achievements")  # foreign keys are off in a bare connection
    made = stocked_sqlite.obms("backup", "run", "--no-prove", "--json").json
    answer = postgresql.obms("restore", made["id"], "--yes")
    assert answer.code == 5, answer.err
    assert "refers to a missing row of achievements" in answer.err


OTHER_FORMS = {
    "inserts": (["--inserts"], "--inserts"),
    "custom": (["--format=custom"], "pg_restore -f"),
    "latin": (["--encoding=LATIN1"], "UTF-8"),
    "no rows": (["--schema-only"], "no rows"),
    "one table": (["--table=issuers", "--table=alembic_version"], "no rows of"),
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_r7_a_dump_of_another_form_is_refused_with_the_way_out(
    postgresql: Deployment, sqlite: Deployment, tmp_path: Path, form: str
) -> None:
    arguments, said = OTHER_FORMS[form]
    postgres, path = postgresql.postgres, tmp_path / "by hand"
    assert postgres is not None
    command = [str(postgres.bin_dir / "pg_dump"), *arguments, "-f", str(path)]
    name = str(postgresql.database.engine.url.database)
    subprocess.run([*command, name], env=postgres.environment(), check=True)
    answer = sqlite.obms("restore", str(path), "--yes")
    assert answer.code == 5, answer.err
    assert said in answer.err
    assert_nothing_is_left(sqlite)


Put = Callable[[str, bytes], Path]


@pytest.mark.parametrize("cut", ["end", "block", "field", "escape"])
def test_r7_a_damaged_dump_is_refused(
    backed_postgresql: Backed, sqlite: Deployment, put_file: Put, cut: str
) -> None:
    server, made = backed_postgresql
    dump = gzip.decompress((server.backup_dir / made["file"]).read_bytes())
    damaged = {
        "end": dump[: len(dump) // 2],
        "block": dump.replace(b"\n\\.\n", b"\n"),
        "field": dump.replace(b"\t", b"", 1),
        "escape": dump.replace(b"\t", b"\t\\q", 1),
    }
    before = digests(sqlite)
    answer = sqlite.obms("restore", str(put_file("by hand", damaged[cut])), "--yes")
    assert answer.code in (5, 8), answer.err
    assert digests(sqlite) == before
