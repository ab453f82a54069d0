"""Status lists: places, bits and the signed lists."""

import json
from dataclasses import replace
from typing import Any, cast

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from openbadgeslib.ob3 import decode_encoded_list, set_indices

from obms.badges import Site, credentials, examining, statuses, verifying
from obms.domain import PURPOSES, REVOCATION, SUSPENSION
from obms.errors import Conflict, NotFound
from obms.schema import revocations, status_entries, status_lists
from obms.specs import Json
from tests.badges.conftest import Clock, add_profiles, issue


@given(st.uuids(), st.sampled_from([8, 100, 131_072 // 64]))
def test_each_position_of_a_list_is_given_once(list_id: object, size: int) -> None:
    assert {statuses.scatter(str(list_id), size, n) for n in range(size)} == set(range(size))


def test_a_full_list_leads_to_a_new_one(connection: sa.Connection, site: Site) -> None:
    issuer, _ = add_profiles(connection, site)
    connection.execute(sa.update(status_lists).values(size=2))
    places = [entry for _ in range(5) for entry in statuses.take_places(connection, site, issuer.id)]
    assert len({(entry.list_id, entry.position) for entry in places}) == 10
    assert len({entry.list_id for entry in places if entry.purpose == REVOCATION}) == 2


def test_a_revocation_shows_in_the_state_and_in_the_signed_list(
    connection: sa.Connection, site: Site
) -> None:
    _, achievement = add_profiles(connection, site)
    id = issue(connection, site, achievement)
    row = _list_of(connection, id, REVOCATION)
    assert _served(connection, site, row.list_id) == set()
    assert statuses.revoke(connection, site, id, "Irrtum ⚠️")
    status = statuses.read_status(connection, id)
    assert status is not None
    assert (status.revoked, status.suspended, status.reason) == (True, False, "Irrtum ⚠️")
    assert _served(connection, site, row.list_id) == {row.position}


def test_the_bits_that_are_set_are_found_by_their_index(connection: sa.Connection) -> None:
    if connection.dialect.name != "sqlite":
        pytest.skip("the planner of PostgreSQL goes by statistics")
    asked: list[tuple[str, Any]] = []
    sa.event.listen(
        connection, "before_cursor_execute", lambda _c, _cursor, sql, values, *_: asked.append((sql, values))
    )
    statuses.set_positions(connection, "a list")
    statuses.count_set(connection, "a list")
    examining.lists_to_check(connection)
    for sql, values in asked.copy():
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all()
        assert any("ix_status_entries_set" in step.detail for step in plan), (sql, plan)


def test_revoking_twice_keeps_the_first_reason(connection: sa.Connection, site: Site) -> None:
    _, achievement = add_profiles(connection, site)
    id = issue(connection, site, achievement)
    assert statuses.revoke(connection, site, id, "first")
    assert not statuses.revoke(connection, site, id, "second")
    assert connection.execute(sa.select(revocations.c.reason)).scalars().all() == ["first"]


def test_a_suspension_is_lifted_and_a_revocation_is_not(connection: sa.Connection, site: Site) -> None:
    _, achievement = add_profiles(connection, site)
    id = issue(connection, site, achievement)
    assert statuses.suspend(connection, site, id, "pending")
    row = _list_of(connection, id, SUSPENSION)
    assert _served(connection, site, row.list_id) == {row.position}
    assert statuses.lift_suspension(connection, site, id)
    assert not statuses.lift_suspension(connection, site, id)
    assert _served(connection, site, row.list_id) == set()
    statuses.revoke(connection, site, id)
    with pytest.raises(Conflict):
        statuses.suspend(connection, site, id)


def test_a_list_is_signed_anew_only_after_a_change_also_when_the_clock_stands_still(
    connection: sa.Connection, site: Site, clock: Clock
) -> None:
    _, achievement = add_profiles(connection, site)
    id = issue(connection, site, achievement)
    list_id = _list_of(connection, id, REVOCATION).list_id
    first = statuses.sign_list(connection, site, list_id)
    clock.advance(hours=1)
    assert statuses.sign_list(connection, site, list_id) == first
    clock.advance(hours=-2)
    statuses.revoke(connection, site, id)
    assert statuses.sign_list(connection, site, list_id) != first


def test_a_deleted_credential_stays_revoked(connection: sa.Connection, site: Site) -> None:
    _, achievement = add_profiles(connection, site)
    id = issue(connection, site, achievement)
    row = _list_of(connection, id, REVOCATION)
    credentials.delete(connection, site, id)
    assert _served(connection, site, row.list_id) == {row.position}
    assert verifying.verify(connection, site, id) is None
    with pytest.raises(NotFound):
        credentials.delete(connection, site, id)


def test_what_was_never_issued_cannot_be_revoked(connection: sa.Connection, site: Site) -> None:
    with pytest.raises(NotFound):
        statuses.revoke(connection, site, "unknown")
    with pytest.raises(NotFound):
        statuses.sign_list(connection, site, "unknown")


def test_every_new_credential_has_a_place_for_each_purpose(connection: sa.Connection, site: Site) -> None:
    _, achievement = add_profiles(connection, site)
    id = issue(connection, site, achievement)
    query = sa.select(status_entries.c.purpose).where(status_entries.c.credential_id == id)
    assert set(connection.execute(query).scalars()) == set(PURPOSES)
    kept = credentials.find(connection, id)
    assert not examining.misplaced(connection, kept, verifying.check_proof(connection, kept))


def test_what_a_document_names_is_held_against_the_places_in_the_rows(
    connection: sa.Connection, site: Site
) -> None:
    """Documents from before name both places, in an array; none may leave out where it is revoked."""
    _, achievement = add_profiles(connection, site)
    kept = credentials.find(connection, issue(connection, replace(site, named=PURPOSES), achievement))
    document = verifying.check_proof(connection, kept)
    revocation, suspension = cast("list[Json]", document["credentialStatus"])
    assert verifying.judge(connection, site, kept).is_valid
    other = {**suspension, "id": f"{revocation['statusListCredential']}#7"}
    for said, wrong in (
        ([revocation, suspension], False),
        (revocation, False),
        ([revocation], False),
        (suspension, True),
        ([revocation, other], True),
        ([], True),
    ):
        told = {**document, "credentialStatus": said}
        assert examining.misplaced(connection, kept, told) is wrong, said


def _list_of(connection: sa.Connection, id: str, purpose: str) -> Any:
    query = sa.select(status_entries.c.list_id, status_entries.c.position)
    query = query.where(status_entries.c.credential_id == id, status_entries.c.purpose == purpose)
    return connection.execute(query).one()


def _served(connection: sa.Connection, site: Site, list_id: str) -> set[int]:
    document = json.loads(statuses.sign_list(connection, site, list_id))
    row = next(row for row in statuses.list_page(connection, 10, 0)[0] if row["id"] == list_id)
    assert examining.list_complaint(connection, row, json.dumps(document)) is None
    return set(set_indices(decode_encoded_list(document["credentialSubject"]["encodedList"])))
