"""Restoring: the moment of the snapshot comes back, what was revoked stays so, and there is a way back."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from obms.badges import statuses
from obms.databases import writing
from obms.databases.sqlite import PAGE_SIZE, Sqlite
from obms.schema import credentials, revocations
from tests.backup.conftest import Backed, add_issuer, assert_nothing_is_left, issuer_names, lose_half
from tests.databases.conftest import give_pages_of
from tests.deployment import Deployment

MADE_BY_THE_CARRY = {"revocations", "status_entries", "status_lists"}


def digests(server: Deployment) -> dict[str, str]:
    return dict(server.database.facts().digests)


def checks(answer: Any) -> dict[str, Any]:
    return {check["name"]: check for check in answer.json["checks"]}


def some_credential(server: Deployment) -> str:
    with server.database.engine.connect() as connection:
        revoked = sa.select(revocations.c.credential_id)
        standing = sa.select(credentials.c.id).where(credentials.c.id.not_in(revoked))
        return str(connection.execute(standing.order_by(credentials.c.id).limit(1)).scalar_one())


def revoke(server: Deployment, credential_id: str) -> None:
    with writing(server.database.engine) as connection:
        statuses.revoke(connection, server.application.site, credential_id, "why")


def is_revoked(server: Deployment, credential_id: str) -> bool:
    with server.database.engine.connect() as connection:
        status = statuses.read_status(connection, credential_id)
    assert status is not None
    return status.revoked


def test_a_restore_brings_back_the_moment_of_the_snapshot(backed: Backed) -> None:
    server, made = backed
    before = digests(server)
    lose_half(server)
    add_issuer(server, "later")
    answer = server.obms("restore", "latest", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["id"] == made["id"]
    assert answer.json["rows"] == made["rows"]
    assert answer.json["proven"] is True
    assert digests(server) == before
    assert_nothing_is_left(server)


@pytest.mark.parametrize("form", ["id", "file", "path", "elsewhere"])
def test_a_backup_is_named_by_its_id_its_file_or_a_path(backed: Backed, form: str, tmp_path: Path) -> None:
    server, made = backed
    image = server.backup_dir / made["file"]
    other = tmp_path / "usb stick"
    other.mkdir()
    for path in (image, image.with_name(image.name + ".json")):
        shutil.copy(path, other)
    names = {"id": made["id"], "file": made["file"], "path": str(image), "elsewhere": str(other / image.name)}
    before = digests(server)
    lose_half(server)
    answer = server.obms("restore", names[form], "--yes", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["id"] == made["id"]
    assert digests(server) == before


@pytest.mark.parametrize(("of", "into"), [(4096, PAGE_SIZE), (PAGE_SIZE, 4096), (8192, 1024)])
def test_a_backup_with_pages_of_another_size_is_restored_over_a_live_database(
    stocked_sqlite: Deployment, of: int, into: int
) -> None:
    server = stocked_sqlite
    assert isinstance(server.database, Sqlite)
    give_pages_of(server.database, of)
    server.made_backup()
    before = server.database.facts()
    give_pages_of(server.database, into)
    lose_half(server)
    answer = server.obms("restore", "latest", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert server.database.facts() == before
    assert_nothing_is_left(server)
    with server.database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA page_size").scalar() == into
    assert server.obms("restore", "--undo", "--yes").code == 0


def test_latest_is_the_newest_that_is_proven(backed: Backed) -> None:
    server, made = backed
    add_issuer(server, "later")
    assert server.obms("backup", "run", "--no-prove").code == 0
    assert server.obms("restore", "latest", "--yes", "--json").json["id"] == made["id"]
    assert "later" not in issuer_names(server)


def test_an_undo_brings_back_what_was_replaced_and_can_itself_be_undone(backed: Backed) -> None:
    server, _ = backed
    before = digests(server)
    add_issuer(server, "later")
    later = digests(server)
    done = server.obms("restore", "latest", "--yes", "--json").json
    assert digests(server) == before
    first = server.obms("restore", "--undo", "--yes", "--json")
    assert first.code == 0, first.err
    assert first.json["id"] == done["safety_backup"]
    assert digests(server) == later
    second = server.obms("restore", "--undo", "--yes")
    assert second.code == 0, second.err
    assert digests(server) == before
    assert_nothing_is_left(server)


def test_without_a_restore_there_is_nothing_to_undo(backed: Backed) -> None:
    server, _ = backed
    before = digests(server)
    answer = server.obms("restore", "--undo", "--yes")
    assert answer.code == 2
    assert "No restore" in answer.err
    assert digests(server) == before


def test_a_dry_run_tells_and_touches_nothing(backed: Backed) -> None:
    server, made = backed
    lose_half(server)
    before, files = digests(server), sorted(server.backup_dir.iterdir())
    answer = server.obms("restore", "latest", "--dry-run", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["rows"] == made["rows"]
    assert answer.json["live_rows"]["credentials"] == made["rows"]["credentials"] - 15
    assert digests(server) == before
    assert sorted(server.backup_dir.iterdir()) == files


def test_r10_what_was_revoked_after_the_backup_stays_revoked(backed: Backed) -> None:
    server, made = backed
    before, revoked = digests(server), some_credential(server)
    revoke(server, revoked)
    answer = server.obms("restore", "latest", "--yes", "--json").json
    assert answer["revocations_kept"] == 1
    assert is_revoked(server, revoked)
    after = digests(server)
    assert {name for name in before if before[name] != after[name]} <= MADE_BY_THE_CARRY
    again = server.made_backup()
    assert again["rows"]["revocations"] == made["rows"]["revocations"] + 1


def test_r10_what_is_revoked_stays_revoked_through_an_undo(backed: Backed) -> None:
    server, _ = backed
    server.obms("restore", "latest", "--yes")
    revoked = some_credential(server)
    revoke(server, revoked)
    answer = server.obms("restore", "--undo", "--yes", "--json").json
    assert answer["revocations_kept"] == 1
    assert is_revoked(server, revoked)


def test_a_lost_database_is_brought_back(backed: Backed) -> None:
    server, _ = backed
    before = digests(server)
    server.database.engine.dispose()
    if server.postgres is None:
        Path(server.environment["SQLITE_FILE"]).unlink()
    else:
        server.postgres.psql(f'DROP DATABASE "{server.database.engine.url.database}"')
    answer = server.obms("restore", "latest", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["safety_backup"] is None
    assert digests(server) == before


def test_what_a_proof_has_compared_is_not_compared_again_and_the_rest_is(backed: Backed) -> None:
    server, _ = backed
    assert server.obms("backup", "run", "--no-prove").code == 0
    unproven = server.obms("backup", "list", "--json").json[0]["id"]
    latest, compared, fresh = (
        checks(server.obms("restore", *words, "--yes", "--json"))
        for words in (("latest",), ("latest", "--compare-rows"), (unproven,))
    )
    assert "not compared again" in latest["content"]["detail"]
    assert "digests" not in latest
    for told in (compared, fresh):
        assert "content" not in told
        assert told["integrity"]["detail"] == "the database's own checks find nothing"
    assert compared["digests"]["ok"]
    # Those of a SQLite image that was never proven are not known.
    assert ("digests" in fresh) == (server.database.kind == "postgresql")
