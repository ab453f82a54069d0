"""What happened between two backups is told row by row: all of it, and nothing else."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from obms.backup.lock import locked
from obms.badges import credentials as kept
from obms.badges import statuses
from obms.databases import writing
from obms.databases.comparing import merge
from obms.errors import LockHeld
from obms.migrations import newest
from obms.schema import achievements, credentials, images, issuers
from tests.backup.conftest import Backed, add_issuer, assert_nothing_is_left, execute
from tests.backup.test_revocations_outlive import lose_database, valid_ids
from tests.deployment import Deployment
from tests.postgres import clean_environment

MANY = 12_000


def differences(server: Deployment, *names: str) -> Any:
    answer = server.obms("backup", "diff", *names, "--json")
    assert answer.code == 0, answer.err
    return answer.json


def counts(found: Any) -> dict[str, tuple[int, int, int]]:
    return {table["table"]: tuple(table[kind] for kind in KINDS) for table in found["tables"]}


KINDS = ("added", "changed", "deleted")


def rows(found: Any, table: str) -> list[Any]:
    (told,) = [each for each in found["tables"] if each["table"] == table]
    return list(told["changes"])


Change = Callable[[sa.Connection, Deployment, str], object]


def _revoke(connection: sa.Connection, server: Deployment, id: str) -> object:
    return statuses.revoke(connection, server.application.site, id, "lost")


def _suspend(connection: sa.Connection, server: Deployment, id: str) -> object:
    return statuses.suspend(connection, server.application.site, id, "asked")


def _delete(connection: sa.Connection, server: Deployment, id: str) -> None:
    kept.delete(connection, server.application.site, id)


def _issue(connection: sa.Connection, _server: Deployment, id: str) -> object:
    row = connection.execute(sa.select(credentials).where(credentials.c.id == id)).mappings().one()
    return connection.execute(sa.insert(credentials), {**row, "id": "zzz-new"})


def _rename(connection: sa.Connection, _server: Deployment, _id: str) -> object:
    first = sa.select(sa.func.min(issuers.c.id)).scalar_subquery()
    return connection.execute(sa.update(issuers).where(issuers.c.id == first).values(name="Ñew", email=None))


def _retag(connection: sa.Connection, _server: Deployment, _id: str) -> object:
    first = sa.select(sa.func.min(achievements.c.id)).scalar_subquery()
    return connection.execute(
        sa.update(achievements).where(achievements.c.id == first).values(tags=["100%", ":name"])
    )


def _repaint(connection: sa.Connection, _server: Deployment, _id: str) -> object:
    first = sa.select(sa.func.min(images.c.id)).scalar_subquery()
    return connection.execute(sa.update(images).where(images.c.id == first).values(content=b"\x89PNG\x00"))


CHANGES: dict[str, tuple[Change, dict[str, tuple[int, int, int]], dict[str, int]]] = {
    "revoked": (
        _revoke,
        {"revocations": (1, 0, 0), "status_entries": (0, 1, 0), "status_lists": (0, 1, 0)},
        {"revoked": 1},
    ),
    "suspended": (
        _suspend,
        {"revocations": (1, 0, 0), "status_entries": (0, 1, 0), "status_lists": (0, 1, 0)},
        {"suspended": 1},
    ),
    "deleted": (
        _delete,
        {"credentials": (0, 0, 1), "status_entries": (0, 1, 0), "status_lists": (0, 1, 0)},
        {"deleted": 1},
    ),
    "issued": (_issue, {"credentials": (1, 0, 0)}, {"issued": 1}),
    "renamed": (_rename, {"issuers": (0, 1, 0)}, {}),
    "retagged": (_retag, {"achievements": (0, 1, 0)}, {}),
    "repainted": (_repaint, {"images": (0, 1, 0)}, {}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_kind_of_change_is_told_and_nothing_else(backed: Backed, name: str) -> None:
    server, made = backed
    change, wanted, words = CHANGES[name]
    (id,) = valid_ids(server, 1)
    with writing(server.database.engine) as connection:
        change(connection, server, id)
    found = differences(server, "latest", "live")
    assert (counts(found), found["words"], found["equal"]) == (wanted, words, False)
    assert (found["first"]["id"], found["second"]["id"]) == (made["id"], "live")
    assert_nothing_is_left(server)


def test_equal_backups_do_not_differ(backed: Backed) -> None:
    server, made = backed
    server.made_backup()
    for names in ((made["id"], "latest"), ("latest", "live"), ("live", "live"), ("latest", "latest")):
        found = differences(server, *names)
        assert (found["equal"], found["tables"], found["words"]) == (True, [], {})
    assert "equal: no row differs" in server.obms("backup", "diff", "latest").out


def test_the_other_way_round_what_was_added_is_deleted(backed: Backed) -> None:
    server, made = backed
    add_issuer(server, "an issuer")
    later = server.made_backup()
    assert counts(differences(server, made["id"], later["id"])) == {"issuers": (1, 0, 0)}
    assert counts(differences(server, later["id"], made["id"])) == {"issuers": (0, 0, 1)}
    assert counts(differences(server, "live", made["id"])) == {"issuers": (0, 0, 1)}


def test_a_changed_row_tells_its_columns(backed: Backed) -> None:
    server, _ = backed
    execute(server, "UPDATE issuers SET name = 'x', url = 'y'")
    found = differences(server, "latest")
    assert {tuple(change["columns"]) for change in rows(found, "issuers")} == {("name", "url")}
    text = server.obms("backup", "diff", "latest").out
    assert "(name, url)" in text


def test_a_lifted_suspension_and_a_lost_revocation_have_their_words(backed: Backed) -> None:
    server, _ = backed
    one, other = valid_ids(server, 2)
    with writing(server.database.engine) as connection:
        _suspend(connection, server, one)
        _revoke(connection, server, other)
    made = server.made_backup()
    with writing(server.database.engine) as connection:
        statuses.lift_suspension(connection, server.application.site, one)
    execute(server, f"DELETE FROM revocations WHERE credential_id = '{other}'")
    assert differences(server, made["id"])["words"] == {"lifted": 1, "no longer revoked": 1}


def test_a_table_that_only_one_side_has_is_told(backed: Backed) -> None:
    server, _ = backed
    execute(server, "CREATE TABLE extra (a integer, b text)", "INSERT INTO extra VALUES (1, 'x'), (1, 'x')")
    (told,) = differences(server, "latest")["tables"]
    assert (told["table"], told["rows_before"], told["rows_after"], told["added"]) == ("extra", None, 2, 2)
    later = server.made_backup()
    execute(server, "INSERT INTO extra VALUES (1, 'x'), (0, NULL)")
    assert counts(differences(server, later["id"])) == {"extra": (2, 0, 0)}


def test_what_is_not_named_is_counted(backed: Backed) -> None:
    server, _ = backed
    for number in range(5):
        add_issuer(server, f"issuer {number}")
    answer = server.obms("backup", "diff", "latest", "live", "--limit", "2")
    assert "5 added" in answer.out
    assert "... and 3 more" in answer.out


def test_numbers_are_ordered_by_value(backed: Backed) -> None:
    server, _ = backed
    values = ", ".join(f"({n}, '2026-01-01 00:00:00+00', 'a', 'b', 'c')" for n in range(1, 13))
    execute(server, f"INSERT INTO audit_events (id, at, actor, action, subject) VALUES {values}")
    made = server.made_backup()
    execute(
        server, "DELETE FROM audit_events WHERE id = 9", "UPDATE audit_events SET actor = 'z' WHERE id = 10"
    )
    assert counts(differences(server, made["id"])) == {"audit_events": (0, 1, 1)}


def test_a_backup_of_the_other_kind_is_compared_too(
    stocked_sqlite: Deployment, postgresql: Deployment
) -> None:
    made = stocked_sqlite.made_backup()
    path = str(stocked_sqlite.backup_dir / made["file"])
    answer = postgresql.obms("restore", path, "--yes")
    assert answer.code == 0, answer.err
    assert differences(postgresql, path, "live")["equal"]
    execute(postgresql, "UPDATE issuers SET name = 'é'")
    back = postgresql.made_backup()
    found = differences(stocked_sqlite, path, str(postgresql.backup_dir / back["file"]))
    assert set(counts(found)) == {"issuers"}
    assert counts(found)["issuers"] == (0, made["rows"]["issuers"], 0)


def test_a_damaged_backup_is_not_compared(backed: Backed) -> None:
    server, made = backed
    path = server.backup_dir / made["file"]
    path.write_bytes(path.read_bytes()[:-9])
    assert server.obms("backup", "diff", made["id"]).code == 5


def test_a_live_database_that_is_lost_or_cannot_be_read_is_told(backed_sqlite: Backed) -> None:
    server, _ = backed_sqlite
    path = server.folder / "data" / "openbadges.db"
    execute(server, "PRAGMA user_version = 1")
    server.database.engine.dispose()
    whole = path.read_bytes()
    half = len(whole) // 2
    path.write_bytes(whole[:half] + bytes(len(whole) - half))
    answer = server.obms("backup", "diff", "latest")
    assert (answer.code, "malformed" in answer.err) == (3, True)
    lose_database(server)
    assert server.obms("backup", "diff", "latest").code == 3
    assert_nothing_is_left(server)


def test_another_schema_is_told(backed: Backed) -> None:
    server, _ = backed
    execute(server, "UPDATE alembic_version SET version_num = '0001'")
    answer = server.obms("backup", "diff", "latest")
    assert answer.code == 0
    assert f"schema {newest()} -> 0001" in answer.out


def test_a_second_run_holds_it_off(backed_sqlite: Backed) -> None:
    server, _ = backed_sqlite
    with locked(server.backups):
        assert server.obms("backup", "diff", "latest").code == LockHeld.exit_code


MEASURED = """
import atexit, resource, sys
from obms.cli import main
atexit.register(lambda: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr))
main()
"""


def measured(server: Deployment, *arguments: str) -> tuple[str, int]:
    """What a command prints, and the most memory its process held, in MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments],
        cwd=server.folder,
        env={**clean_environment(), **server.environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout, int(done.stderr.split()[-1]) // 1000


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(stocked: Deployment) -> None:
    """Twenty thousand credentials, 60 MB of documents, of which each differs."""
    columns = ", ".join(column.name for column in credentials.c if column.name not in ("id", "document"))
    few = stocked.obms("backup", "run", "--no-prove", "--json").json["id"]
    execute(
        stocked,
        f"INSERT INTO credentials (id, document, {columns}) WITH RECURSIVE n(k) AS"
        f" (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < {MANY})"
        f" SELECT id || '-' || k, document, {columns} FROM n, (SELECT * FROM credentials LIMIT 1) AS one",
        f"UPDATE credentials SET document = document || '{'x' * 2000}'",
    )
    many = stocked.obms("backup", "run", "--no-prove", "--json").json["id"]
    execute(stocked, "UPDATE credentials SET document = 'y' || document")
    _, small = measured(stocked, "backup", "diff", few, few)
    told, large = measured(stocked, "backup", "diff", many, "live", "--limit", "1")
    assert f"{MANY + 30} changed" in told
    assert large - small < 25


Rows = dict[int, str]


@given(
    first=st.dictionaries(st.integers(0, 9), st.sampled_from("ab")),
    second=st.dictionaries(st.integers(0, 9), st.sampled_from("ab")),
)
def test_a_merge_tells_what_the_sets_tell(first: Rows, second: Rows) -> None:
    sides = [iter([((key,), found[key]) for key in sorted(found)]) for found in (first, second)]
    told = list(merge(*sides))
    wanted = {("deleted", (key,)) for key in first.keys() - second.keys()}
    wanted |= {("added", (key,)) for key in second.keys() - first.keys()}
    wanted |= {("changed", (key,)) for key in first.keys() & second.keys() if first[key] != second[key]}
    assert set(told) == wanted
    assert len(told) == len(wanted)
