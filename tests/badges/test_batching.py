"""Many issued at once: as good as one by one, over the ends of lists, and each refusal its own."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from obms.badges import Site, batching, examining, statuses, verifying
from obms.badges.credentials import Kept
from obms.domain import PURPOSES, Evidence, ProofKind, Result
from obms.errors import Forbidden, Invalid, NotFound, ObmsError
from obms.schema import credentials, status_lists
from tests.badges.conftest import add_profiles, order_for

ORDER: list[tuple[ProofKind, str]] = [
    ("jwt", "RS256"),
    ("jwt", "EdDSA"),
    ("data-integrity", "eddsa-rdfc-2022"),
]


def allow(_issuer_id: str) -> None:
    return


def test_places_are_taken_over_the_ends_of_lists(connection: sa.Connection, site: Site) -> None:
    issuer, _ = add_profiles(connection, site)
    connection.execute(sa.update(status_lists).values(size=16, next_index=13))
    one = statuses.take_places(connection, site, issuer.id)
    many = statuses.take_many(connection, site, issuer.id, 5)
    held = [entry for entries in (one, *many) for entry in entries]
    assert len({(entry.list_id, entry.position) for entry in held}) == 12
    assert [tuple(entry.purpose for entry in entries) for entries in many] == [PURPOSES] * 5
    assert len({entry.list_id for entry in held}) == 4
    assert statuses.take_many(connection, site, issuer.id, 0) == []


def test_what_is_issued_together_verifies_and_stands_in_order(connection: sa.Connection, site: Site) -> None:
    achievements = [add_profiles(connection, site, number)[1] for number in (1, 2)]
    orders = [
        replace(order_for(achievement, proof=proof), alg="EdDSA" if suite == "EdDSA" else None)
        for achievement in achievements
        for proof, suite in ORDER
    ]
    outcomes = batching.issue_many(connection, site, orders, allow)
    for order, outcome, (_, suite) in zip(orders, outcomes, ORDER * 2, strict=True):
        assert isinstance(outcome, Kept)
        assert outcome.achievement_id == order.achievement_id
        verdict = verifying.verify(connection, site, outcome.id)
        assert verdict is not None
        assert (verdict.is_valid, verdict.cryptosuite) == (True, suite)
    assert examining.disagreements(connection) == examining.broken_references(connection) == []


def test_each_refusal_is_its_own_and_leaves_nothing_behind(connection: sa.Connection, site: Site) -> None:
    _, mine = add_profiles(connection, site, 1)
    other, theirs = add_profiles(connection, site, 2)
    asked: list[str] = []

    def allow_mine(issuer_id: str) -> None:
        asked.append(issuer_id)
        if issuer_id == other.id:
            raise Forbidden

    good = order_for(mine, proof="data-integrity")
    orders = [
        good,
        replace(good, achievement_id="unknown"),
        replace(good, achievement_id=theirs.id),
        replace(good, results=(Result(result_description="urn:unknown"),)),
        replace(good, evidence=(Evidence(url="not a URL"),)),
        replace(good, achievement_id=theirs.id),
        good,
    ]
    outcomes = batching.issue_many(connection, site, orders, allow_mine)
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Kept, NotFound, Forbidden, Invalid, Invalid, Forbidden, Kept]
    assert set(asked) == {mine.issuer_id, other.id}
    assert connection.execute(sa.select(sa.func.count()).select_from(credentials)).scalar_one() == 2
    assert examining.broken_references(connection) == []


def test_nothing_is_issued_of_nothing(connection: sa.Connection, site: Site) -> None:
    assert batching.issue_many(connection, site, [], allow) == []
    (outcome,) = batching.issue_many(
        connection, site, [replace(order_for(add_profiles(connection, site)[1]), achievement_id="x")], allow
    )
    assert isinstance(outcome, ObmsError)


def test_a_row_that_the_database_refuses_undoes_all_of_them(connection: sa.Connection, site: Site) -> None:
    """Nothing is half issued: the places and the badges are one transaction."""
    _, achievement = add_profiles(connection, site)
    connection.execute(sa.text("DROP TABLE revocations"))
    connection.execute(sa.text("DROP TABLE status_entries"))
    with pytest.raises(sa.exc.DBAPIError), connection.begin_nested():
        batching.issue_many(connection, site, [order_for(achievement)] * 2, allow)
    assert connection.execute(sa.select(sa.func.count()).select_from(credentials)).scalar_one() == 0
