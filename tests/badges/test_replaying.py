"""The entries of a journal are done to an older database that knows nothing of them."""

from typing import Any

import pytest
import sqlalchemy as sa

from obms.badges import Site, credentials, examining, statuses
from obms.badges.replaying import count_known, replay
from obms.badges.standings import read_standing, standings_since
from obms.domain import REVOCATION, SUSPENSION, Achievement
from obms.schema import issuers, revocations, status_entries, status_lists
from tests.badges.conftest import Clock, add_profiles, issue
from tests.badges.test_carrying import copy_rows, older

__all__ = ["older"]
Entries = list[dict[str, Any]]


@pytest.fixture
def achievement(connection: sa.Connection, site: Site) -> Achievement:
    return add_profiles(connection, site)[1]


def told(connection: sa.Connection, site: Site, action: str, id: str) -> dict[str, Any]:
    """Do it, and give the entry that is kept of it."""
    purpose = SUSPENSION
    if action == "suspend":
        statuses.suspend(connection, site, id, "why")
    elif action == "lift":
        statuses.lift_suspension(connection, site, id)
    else:
        purpose = REVOCATION
        if action == "revoke":
            statuses.revoke(connection, site, id, "why")
        else:
            credentials.delete(connection, site, id)
    site.clock.advance(seconds=1)  # type: ignore[attr-defined]
    return read_standing(connection, id, purpose) | {"own": True}


def weights(older: sa.Connection, entries: Entries) -> list[int]:
    found = [weight for _, weight in replay(older, entries)]
    assert examining.disagreements(older) == []
    assert examining.broken_references(older) == []
    return found


def state(connection: sa.Connection, id: str) -> tuple[bool, bool] | None:
    status = statuses.read_status(connection, id)
    return (status.revoked, status.suspended) if status else None


def test_what_was_revoked_later_is_revoked_again_with_its_reason_and_its_time(
    connection: sa.Connection, older: sa.Connection, site: Site, achievement: Achievement
) -> None:
    ids = [issue(connection, site, achievement) for _ in range(3)]
    copy_rows(connection, older)
    entries = [told(connection, site, "revoke", ids[0]), told(connection, site, "suspend", ids[1])]
    assert weights(older, [*entries, *entries]) == [1, 1]
    assert [state(older, id) for id in ids] == [(True, False), (False, True), (False, False)]
    for id in ids:
        assert statuses.read_status(older, id) == statuses.read_status(connection, id)
    assert weights(older, entries) == []
    assert count_known(connection, entries) == 2


def test_what_a_database_knows_already_changes_nothing_in_it(
    connection: sa.Connection, older: sa.Connection, site: Site, achievement: Achievement
) -> None:
    """Its lists stay signed, with the time at which they changed: an undo gives back just what was there."""
    ids = [issue(connection, site, achievement) for _ in range(4)]
    actions = ("delete", "revoke", "suspend", "delete")
    entries = [told(connection, site, action, id) for action, id in zip(actions, ids, strict=True)]
    connection.execute(sa.update(status_lists).values(signed_at=status_lists.c.changed_at))
    copy_rows(connection, older)
    assert weights(older, entries) == []
    for table in (status_lists, status_entries, revocations):
        rows = [set(each.execute(sa.select(table)).all()) for each in (connection, older)]
        assert rows[0] == rows[1], table.name


def test_a_badge_that_the_backup_does_not_hold_is_revoked_in_its_place(
    connection: sa.Connection, older: sa.Connection, site: Site, achievement: Achievement
) -> None:
    """Also in a list that was opened after the backup; and no later badge gets its place."""
    copy_rows(connection, older)
    ids = [issue(connection, site, achievement) for _ in range(3)]
    entries = [
        told(connection, site, action, id) for action, id in zip(("revoke", "suspend"), ids[:2], strict=True)
    ]
    assert weights(older, entries) == [1, 1]
    for id in ids[:2]:
        assert state(older, id) == state(connection, id)
    places = set(older.execute(sa.select(status_entries.c.list_id, status_entries.c.position)).all())
    assert places < set(connection.execute(sa.select(status_entries.c.list_id, status_entries.c.position)))
    for _ in range(5):
        issue(older, site, achievement)
    assert examining.broken_references(older) == []


def test_the_last_word_on_a_suspension_holds(
    connection: sa.Connection, older: sa.Connection, site: Site, achievement: Achievement
) -> None:
    ids = [issue(connection, site, achievement) for _ in range(2)]
    told(connection, site, "suspend", ids[0])
    copy_rows(connection, older)
    lost = issue(connection, site, achievement)
    entries = [
        told(connection, site, "lift", ids[0]),
        told(connection, site, "suspend", ids[1]),
        told(connection, site, "lift", ids[1]),
        told(connection, site, "suspend", ids[1]),
        told(connection, site, "suspend", lost),
        told(connection, site, "lift", lost),
    ]
    assert sum(weights(older, entries)) == 0
    assert [state(older, id) for id in (*ids, lost)] == [(False, False), (False, True), None]


def test_a_lifting_that_is_not_sealed_by_this_server_or_is_older_lifts_nothing(
    connection: sa.Connection, older: sa.Connection, site: Site, achievement: Achievement
) -> None:
    id = issue(connection, site, achievement)
    early = [told(connection, site, "suspend", id), told(connection, site, "lift", id)]
    told(connection, site, "suspend", id)
    copy_rows(connection, older)
    late = told(connection, site, "lift", id)
    assert weights(older, [*early, late | {"own": False}]) == []
    assert state(older, id) == (False, True)
    assert weights(older, [late]) == [-1]


def test_a_deleted_badge_comes_back_with_the_backup_and_keeps_its_bit_without_it(
    connection: sa.Connection, older: sa.Connection, site: Site, achievement: Achievement
) -> None:
    held = issue(connection, site, achievement)
    copy_rows(connection, older)
    lost = issue(connection, site, achievement)
    entries = [told(connection, site, "delete", id) for id in (held, lost)]
    assert weights(older, entries) == []
    assert [state(older, id) for id in (held, lost)] == [(False, False), (True, False)]


def test_what_has_no_place_in_the_backup_is_named(
    connection: sa.Connection, older: sa.Connection, site: Site, achievement: Achievement
) -> None:
    """Its issuer is not there, or another badge was given its place after two histories parted."""
    copy_rows(connection, older)
    mine, theirs = issue(connection, site, achievement), issue(older, site, achievement)
    assert weights(older, [told(connection, site, "revoke", mine)]) == [0]
    assert state(older, theirs) == (False, False)
    _, other = add_profiles(connection, site, 2)
    assert weights(older, [told(connection, site, "revoke", issue(connection, site, other))]) == [0]
    assert older.execute(sa.select(sa.func.count()).select_from(issuers)).scalar_one() == 1


def test_the_database_tells_the_same_entries_as_were_kept_at_the_time(
    connection: sa.Connection, site: Site, achievement: Achievement, clock: Clock
) -> None:
    ids = [issue(connection, site, achievement) for _ in range(3)]
    kept = [told(connection, site, "revoke", ids[0])]
    clock.advance(hours=1)
    middle = clock()
    kept += [told(connection, site, action, ids[1]) for action in ("suspend", "revoke")]

    def sorted_by_time(entries: Entries) -> Entries:
        return sorted(({**entry, "own": True} for entry in entries), key=lambda entry: entry["at"])

    assert sorted_by_time(list(standings_since(connection, None))) == kept
    assert sorted_by_time(list(standings_since(connection, middle))) == kept[1:]


@pytest.mark.parametrize("counter", [0, 1, 77_777, statuses.LIST_SIZE - 1])
def test_the_counter_of_a_position_is_the_one_that_gave_it(counter: int) -> None:
    position = statuses.scatter("a list", statuses.LIST_SIZE, counter)
    assert statuses.counter_of("a list", statuses.LIST_SIZE, position) == counter
