"""R10: no restore makes a revoked badge valid again, though the database that knew of it is lost."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from openbadgeslib.ob3 import decode_encoded_list

from obms.backup.journal import Tally
from obms.backup.shipping import read_shipped, ship_to_all
from obms.backup.storage import Folder
from obms.backup.stores import open_stores
from obms.badges import examining, statuses
from obms.badges.standings import read_standing
from obms.databases import writing
from obms.domain import REVOCATION
from obms.schema import credentials, revocations, status_lists
from obms.web import create_app
from tests.backup.conftest import Backed, Noted, execute
from tests.deployment import Deployment
from tests.real_faults import wait_until
from tests.web.conftest import Client

REVOKED = 1000


def lose_database(server: Deployment) -> None:
    """The files are deleted; the database is dropped."""
    server.database.engine.dispose()
    if server.postgres is None:
        shutil.rmtree(server.folder / "data")
    else:
        server.postgres.psql(f'DROP DATABASE "{server.database.engine.url.database}" WITH (FORCE)')


def valid_ids(server: Deployment, limit: int) -> list[str]:
    """Some that nothing is set for."""
    query = sa.select(credentials.c.id).where(
        ~sa.exists().where(revocations.c.credential_id == credentials.c.id)
    )
    with server.database.engine.connect() as connection:
        return list(connection.execute(query.order_by(credentials.c.id).limit(limit)).scalars())


def revoke(server: Deployment, ids: list[str]) -> None:
    """As the API does it: committed, then kept, one by one."""
    application = server.application
    for id in ids:
        with writing(application.database.engine) as connection:
            statuses.revoke(connection, application.site, id, "lost")
            standing = read_standing(connection, id, REVOCATION)
        application.keep([standing])
    application.database.engine.dispose()


@contextmanager
def asked(server: Deployment) -> Iterator[Client]:
    """Someone who talks to the API of this server."""
    application = server.application
    yield Client(app=create_app(application))
    application.database.engine.dispose()


def restored(server: Deployment, name: str = "latest", *more: str) -> Any:
    answer = server.obms("restore", name, "--yes", "--json", *more)
    assert answer.code == 0, answer.err
    return answer.json


def check(report: Any, name: str) -> Any:
    return next(check for check in report["checks"] if check["name"] == name)


def assert_revoked(server: Deployment, ids: list[str]) -> None:
    """By the rows, and by the lists as they are signed and published now."""
    with writing(server.database.engine) as connection:
        assert examining.disagreements(connection) == []
        assert examining.broken_references(connection) == []
        set_positions = {
            (row.id, position)
            for row in connection.execute(sa.select(status_lists.c.id))
            for position in _published(connection, server, row.id)
        }
        for id in ids:
            places = read_standing(connection, id, REVOCATION)["places"]
            place = next(
                (list_id, position) for purpose, list_id, position, _ in places if purpose == REVOCATION
            )
            assert place in set_positions
            status = statuses.read_status(connection, id)
            assert status is not None
            assert status.revoked


def _published(connection: sa.Connection, server: Deployment, list_id: str) -> list[int]:
    document = json.loads(statuses.sign_list(connection, server.application.site, list_id))
    bits = decode_encoded_list(document["credentialSubject"]["encodedList"])
    return [
        8 * place + bit for place, byte in enumerate(bits) if byte for bit in range(8) if byte & 128 >> bit
    ]


def test_r10_a_thousand_revocations_outlive_the_database(deployment: Deployment) -> None:
    deployment.seed(REVOKED + 200)
    deployment.made_backup()
    ids = valid_ids(deployment, REVOKED)
    revoke(deployment, ids)
    lose_database(deployment)
    report = restored(deployment)
    assert (report["revocations_kept"], report["from_journal"]) == (REVOKED, REVOKED)
    assert check(report, "journal")["ok"]
    assert_revoked(deployment, ids)
    assert deployment.obms("backup", "run").code == 0


def test_r10_what_the_live_database_tells_is_not_counted_for_the_journal(backed: Backed) -> None:
    server, _ = backed
    ids = valid_ids(server, 5)
    revoke(server, ids)
    with writing(server.database.engine) as connection:
        statuses.revoke(connection, server.application.site, valid_ids(server, 1)[0])
    report = restored(server)
    assert (report["revocations_kept"], report["from_journal"]) == (6, 0)
    execute(server, "UPDATE status_entries SET value = false", "DELETE FROM revocations")
    report = restored(server)
    assert (report["revocations_kept"], report["from_journal"]) == (5, 5)
    assert_revoked(server, ids)


def test_r10_the_api_keeps_each_revocation_and_says_when_it_cannot(deployment: Deployment) -> None:
    with asked(deployment) as client:
        ids = [client.issue() for _ in range(4)]
        deployment.made_backup()
        assert client.post(f"/credentials/{ids[0]}/revoke", {"reason": "é"}).status_code == 200
        assert client.get("/health").json()["status"] == "ok"
        folder = deployment.backup_dir / "journal"
        folder.rename(folder.with_name("journal away"))
        folder.write_text("something stands in the way", encoding="ascii")
        assert client.post(f"/credentials/{ids[1]}/suspend").json()["status"] == "suspended"
        health = client.get("/health").json()
        assert (health["status"], "journal" in health["backup"]["journalProblem"]) == ("degraded", True)
        folder.unlink()
        folder.with_name("journal away").rename(folder)
        assert client.get("/health").json()["status"] == "ok"
        assert client.ask("DELETE", f"/credentials/{ids[2]}").status_code == 204
    lose_database(deployment)
    assert restored(deployment)["from_journal"] == 2
    with asked(deployment) as client:
        found = [client.get(f"/credentials/{id}/verify").json() for id in ids]
    assert [(one["isRevoked"], one["isSuspended"]) for one in found] == [
        (True, False),
        (False, True),
        (False, False),
        (False, False),
    ]


def test_r10_the_next_backup_makes_up_for_what_could_not_be_kept(backed: Backed) -> None:
    """Restored is the older of the two: it holds none of it, and the newer one is lost too."""
    server, made = backed
    ids = valid_ids(server, 3)
    with writing(server.database.engine) as connection:
        for id in ids:
            statuses.revoke(connection, server.application.site, id)
    server.made_backup()
    lose_database(server)
    report = restored(server, made["id"])
    assert (report["revocations_kept"], report["from_journal"]) == (3, 3)
    assert_revoked(server, ids)


def test_a_backup_that_cannot_bring_the_journal_up_to_date_says_so(stocked_sqlite: Deployment) -> None:
    (stocked_sqlite.backup_dir).mkdir(exist_ok=True)
    (stocked_sqlite.backup_dir / "journal").write_text("in the way", encoding="ascii")
    made = stocked_sqlite.made_backup()
    assert "journal" in made["journal_problem"]
    assert "journal of revocations is behind" in stocked_sqlite.obms("backup", "run").out


def test_r10_a_live_database_that_cannot_tell_its_revocations_is_not_passed_over(backed: Backed) -> None:
    server, _ = backed
    ids = valid_ids(server, 2)
    revoke(server, ids)
    execute(server, "DROP TABLE revocations")
    report = restored(server)
    found = check(report, "later revocations")
    assert not found["ok"]
    assert "could not tell" in found["detail"]
    assert (report["revocations_kept"], report["from_journal"]) == (2, 2)
    assert_revoked(server, ids)


def test_r10_where_nothing_can_tell_later_revocations_it_is_said(backed_sqlite: Backed) -> None:
    server, _ = backed_sqlite
    lose_database(server)
    shutil.rmtree(server.backup_dir / "journal")
    answer = server.obms("restore", "latest", "--yes")
    assert answer.code == 0
    assert "CHECK later revocations: there was neither a live database nor a journal" in answer.out
    (warning,) = answer.err.splitlines()
    assert warning.startswith("obms: warning: later revocations: there was neither")
    assert "`obms backup diff sqlite_backup_" in warning


def test_r10_what_another_server_sealed_is_brought_only_where_that_is_accepted(
    backed_sqlite: Backed, tmp_path: Path
) -> None:
    server, made = backed_sqlite
    ids = valid_ids(server, 2)
    revoke(server, ids)
    lose_database(server)
    name = str(server.backup_dir / made["file"])
    copy = tmp_path / "by hand.db.gz"
    copy.write_bytes(Path(name).read_bytes())
    server.environment["SECRET_KEY"] = "the key of another server"
    report = restored(server, made["id"], "--accept-other-key")
    assert report["from_journal"] == 2
    server.environment["SECRET_KEY"] = "and of a third one"
    answer = server.obms("restore", str(copy), "--yes", "--json", "--accept-other-key")
    assert answer.code == 0
    assert check(answer.json, "journal")["ok"]


def spoil_last_line(server: Deployment, state: str) -> None:
    path = max((server.backup_dir / "journal").iterdir())
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-1] = lines[-1][:-9] if state == "torn" else lines[-1].replace(b"lost", b"last")
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["done", "dry run"])
def test_r10_rows_that_come_back_under_a_bad_journal_are_warned_of_as_a_whole_restore_is(
    backed_sqlite: Backed, more: tuple[str, ...]
) -> None:
    server, made = backed_sqlite
    ids = valid_ids(server, 3)
    revoke(server, ids)
    spoil_last_line(server, "damaged")
    answer = server.obms("restore", made["id"], "--only", f"credential={ids[0]}", "--yes", *more)
    assert answer.code == 0, answer.err
    (warning,) = answer.err.splitlines()
    assert warning.startswith("obms: warning: journal: ")
    assert "1 damaged" in warning
    assert "`obms backup diff sqlite_backup_" in warning


@pytest.mark.parametrize("state", ["torn", "damaged"])
def test_r10_a_journal_with_a_bad_line_brings_the_others_and_says_so(
    backed_sqlite: Backed, state: str
) -> None:
    server, _ = backed_sqlite
    ids = valid_ids(server, 3)
    revoke(server, ids)
    spoil_last_line(server, state)
    lose_database(server)
    report = restored(server)
    found = check(report, "journal")
    assert (found["ok"], f"1 {state}" in found["detail"]) == (state == "torn", True)
    assert report["from_journal"] == 2
    assert_revoked(server, ids[:2])


def test_r10_a_journal_in_a_store_outlives_database_and_folder(stocked_sqlite: Deployment) -> None:
    """Revoked through the API: it is in the store without any backup, soon after the answer."""
    server = stocked_sqlite
    server.environment["BACKUP_STORES"] = str(server.folder / "store")
    made = server.made_backup()
    store = server.folder / "store"
    before = journal_slices(store)
    assert before
    ids = valid_ids(server, 3)
    with asked(server) as client:
        for id in ids:
            assert client.post(f"/credentials/{id}/revoke").status_code == 200
        wanted = sum(path.stat().st_size for path in (server.backup_dir / "journal").iterdir())
        wait_until(lambda: total(store) == wanted or None, "the arrival of the journal in the store")
    shutil.rmtree(server.backup_dir)
    lose_database(server)
    del server.environment["BACKUP_STORES"]
    report = restored(server, f"{store.as_uri()}/{made['id']}")
    assert (report["from_journal"], check(report, "journal")["ok"]) == (3, True)
    assert_revoked(server, ids)


def journal_slices(store: Path) -> list[Path]:
    return sorted(store.glob("revocations_*.jsonl"))


def total(store: Path) -> int:
    return sum(path.stat().st_size for path in journal_slices(store))


def test_a_store_that_does_not_take_the_journal_is_told_and_served_later(stocked_sqlite: Deployment) -> None:
    server, store = stocked_sqlite, stocked_sqlite.folder / "store"
    store.write_text("in the way", encoding="ascii")
    stores = open_stores((str(store),), {})
    noted = Noted()
    server.made_backup()
    journal = server.backups.later.journal
    assert "store" in str(ship_to_all(journal, stores, noted))
    assert len(noted.named("journal.unshipped")) == 1
    store.unlink()
    assert ship_to_all(journal, stores, noted) is None
    sent = total(store)
    assert sent == sum(path.stat().st_size for path in journal.files())
    assert ship_to_all(journal, stores, noted) is None
    assert total(store) == sent
    kept = [line.entry for line in journal.read()]
    shutil.rmtree(journal.folder)
    assert [line.entry for line in read_shipped(journal, Folder(store), Tally())] == kept


def test_r10_a_dry_run_tells_what_the_journal_would_bring(deployment: Deployment) -> None:
    with asked(deployment) as client:
        ids = [client.issue() for _ in range(6)]
        client.post(f"/credentials/{ids[0]}/revoke")
        deployment.made_backup()
        assert later_revocations(deployment) == 0
        for id in ids[1:4]:
            assert client.post(f"/credentials/{id}/revoke").status_code == 200
        assert client.post(f"/credentials/{ids[4]}/suspend").status_code == 200
        assert later_revocations(deployment) == 4
        assert client.post(f"/credentials/{ids[4]}/unsuspend").status_code == 200
    assert later_revocations(deployment) == 3
    assert "(3 in the journal)" in deployment.obms("restore", "latest", "--dry-run").out
    lose_database(deployment)
    assert later_revocations(deployment) == restored(deployment)["revocations_kept"] == 3


def later_revocations(server: Deployment) -> Any:
    answer = server.obms("restore", "latest", "--dry-run", "--json")
    assert answer.code == 0, answer.err
    return answer.json["later_revocations"]
