"""Revocations are carried into an older database, whatever kinds the two are of."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from obms.badges import Site, carrying, credentials, examining, statuses
from obms.domain import PURPOSES
from obms.schema import metadata, revocations, status_entries, status_lists
from tests.badges.conftest import add_profiles, issue
from tests.deployment import Deployment


@pytest.fixture
def older(tmp_path: Path) -> Iterator[sa.Connection]:
    """An empty database to restore into."""
    folder = tmp_path / "older"
    folder.mkdir()
    with Deployment.made(folder, None) as made, made.database.engine.connect() as connection:
        yield connection


def copy_rows(source: sa.Connection, target: sa.Connection) -> None:
    """What a backup of `source` would bring."""
    for table in metadata.sorted_tables:
        rows = [dict(row) for row in source.execute(sa.select(table)).mappings()]
        if rows:
            target.execute(sa.insert(table), rows)


def test_what_was_revoked_or_suspended_later_is_so_in_the_restored_one(
    connection: sa.Connection, older: sa.Connection, site: Site
) -> None:
    _, achievement = add_profiles(connection, site)
    ids = [issue(connection, site, achievement) for _ in range(4)]
    statuses.revoke(connection, site, ids[0], "before")
    list_id = connection.execute(sa.select(status_lists.c.id)).scalars().first()
    assert list_id is not None
    copy_rows(connection, older)
    statuses.sign_list(older, site, list_id)
    statuses.revoke(connection, site, ids[1], "after")
    statuses.suspend(connection, site, ids[2], "after")
    assert carrying.carry_revocations(connection, older) == 2
    assert [_state(older, id) for id in ids] == [
        (True, False),
        (True, False),
        (False, True),
        (False, False),
    ]
    assert examining.disagreements(older) == []
    assert carrying.carry_revocations(connection, older) == 0
    fresh = [
        statuses.fresh_document(statuses.find_list(older, row.id), site.clock())
        for row in older.execute(sa.select(status_lists.c.id))
    ]
    assert fresh == [None, None]


def test_a_badge_issued_after_the_backup_and_revoked_stays_revoked(
    connection: sa.Connection, older: sa.Connection, site: Site
) -> None:
    _, achievement = add_profiles(connection, site)
    copy_rows(connection, older)
    connection.execute(sa.update(status_lists).values(size=1))
    ids = [issue(connection, site, achievement) for _ in range(2)]
    for id in ids:
        statuses.revoke(connection, site, id)
    assert carrying.carry_revocations(connection, older) == 2
    assert [_state(older, id) for id in ids] == [(True, False), (True, False)]
    assert examining.disagreements(older) == []
    assert examining.broken_references(older) == []


def test_no_place_is_given_twice_after_a_restore(
    connection: sa.Connection, older: sa.Connection, site: Site
) -> None:
    _, achievement = add_profiles(connection, site)
    copy_rows(connection, older)
    for _ in range(3):
        issue(connection, site, achievement)
    carrying.carry_revocations(connection, older)
    issue(older, site, achievement)
    places = [
        set(each.execute(sa.select(status_entries.c.list_id, status_entries.c.position)).all())
        for each in (connection, older)
    ]
    assert not places[0] & places[1]


def test_a_place_that_another_credential_has_taken_meanwhile_stays_its_own(
    connection: sa.Connection, older: sa.Connection, site: Site
) -> None:
    _, achievement = add_profiles(connection, site)
    copy_rows(connection, older)
    mine, theirs = issue(connection, site, achievement), issue(older, site, achievement)
    statuses.revoke(connection, site, mine)
    assert carrying.carry_revocations(connection, older) == 0
    assert _state(older, theirs) == (False, False)


def test_more_revocations_than_one_batch_are_all_carried(
    connection: sa.Connection, older: sa.Connection, site: Site
) -> None:
    issuer, _ = add_profiles(connection, site)
    copy_rows(connection, older)
    ids = [f"credential {number:05}" for number in range(carrying.BATCH * 2 + 7)]
    _add_places(connection, site, issuer.id, ids)
    now = site.clock()
    rows = [
        {"credential_id": id, "purpose": purpose, "revoked_at": now} for id in ids for purpose in PURPOSES
    ]
    connection.execute(sa.insert(revocations), rows)
    assert carrying.carry_revocations(connection, older) == len(rows)
    assert examining.disagreements(older) == []


def _add_places(connection: sa.Connection, site: Site, issuer_id: str, ids: list[str]) -> None:
    """Places with their bits set, as taking them one by one would give them, only sooner."""
    statuses.open_lists(connection, site, issuer_id)
    lists = connection.execute(sa.select(status_lists.c.purpose, status_lists.c.id)).all()
    rows = [
        {"credential_id": id, "purpose": purpose, "list_id": list_id, "position": number, "value": True}
        for number, id in enumerate(ids)
        for purpose, list_id in lists
    ]
    connection.execute(sa.insert(status_entries), rows)
    connection.execute(sa.update(status_lists).values(next_index=len(ids)))


def test_a_credential_that_was_deleted_after_the_backup_comes_back_as_it_was(
    connection: sa.Connection, older: sa.Connection, site: Site
) -> None:
    _, achievement = add_profiles(connection, site)
    id = issue(connection, site, achievement)
    copy_rows(connection, older)
    credentials.delete(connection, site, id)
    assert _state(connection, id) == (True, False)
    assert carrying.carry_revocations(connection, older) == 0
    assert _state(older, id) == (False, False)
    assert credentials.find(older, id).id == id


def test_a_credential_that_was_issued_and_deleted_after_the_backup_keeps_its_bit(
    connection: sa.Connection, older: sa.Connection, site: Site
) -> None:
    _, achievement = add_profiles(connection, site)
    copy_rows(connection, older)
    id = issue(connection, site, achievement)
    credentials.delete(connection, site, id)
    carrying.carry_revocations(connection, older)
    assert _state(older, id) == (True, False)
    assert examining.disagreements(older) == []
    assert examining.broken_references(older) == []


def test_a_revoked_credential_that_was_deleted_stays_revoked(
    connection: sa.Connection, older: sa.Connection, site: Site
) -> None:
    _, achievement = add_profiles(connection, site)
    id = issue(connection, site, achievement)
    copy_rows(connection, older)
    statuses.revoke(connection, site, id, "why")
    credentials.delete(connection, site, id)
    assert carrying.carry_revocations(connection, older) == 1
    assert _state(older, id) == (True, False)


def _state(connection: sa.Connection, id: str) -> tuple[bool, bool]:
    status = statuses.read_status(connection, id)
    assert status is not None
    return status.revoked, status.suspended
