"""The model says no where it has to, and a history that fails is cut to what matters."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.deployment import Deployment
from tests.machine.moments import Due, Held, Moment, read_moment
from tests.machine.play import Step, draw, shortened


@pytest.fixture
def moment(stocked_sqlite: Deployment) -> Moment:
    found = read_moment(stocked_sqlite.database)
    assert found is not None
    return found


def complaints(source: Moment, found: Moment) -> list[str]:
    due = Due(source=source, least=Held.of(source), most=Held.of(source), places=source.places)
    return list(due.complaints(found))


def test_a_restore_that_gives_all_is_not_complained_of(moment: Moment) -> None:
    assert complaints(moment, moment) == []


def test_r10_a_forgotten_revocation_is_complained_of(moment: Moment) -> None:
    lost = min(moment.revoked)
    assert complaints(moment, replace(moment, revoked=moment.revoked - {lost})) == [
        f"the revocation of {[lost]} is forgotten"
    ]


def test_r10_a_forgotten_suspension_is_complained_of(moment: Moment) -> None:
    lost = min(moment.credentials)
    assert complaints(replace(moment, suspended=frozenset({lost})), moment) == [
        f"the suspension of {[lost]} is forgotten"
    ]


def test_a_revocation_that_nobody_asked_for_is_complained_of(moment: Moment) -> None:
    found = replace(moment, revoked=moment.revoked | {"another"})
    assert complaints(moment, found) == ["a revocation of ['another'] was never asked for"]


def test_another_row_in_any_other_table_is_complained_of(moment: Moment) -> None:
    found = replace(moment, digests=dict(moment.digests) | {"credentials": "another"})
    assert complaints(moment, found) == ["the restored tables ['credentials'] are not those of the backup"]


def test_what_contradicts_itself_is_complained_of(moment: Moment) -> None:
    assert complaints(moment, replace(moment, complaints=("a bit without a revocation",))) == [
        "a bit without a revocation"
    ]


def test_the_same_seed_draws_the_same_history() -> None:
    assert draw(7, 50) == draw(7, 50)
    assert draw(7, 50) != draw(8, 50)


def test_a_history_is_cut_to_the_steps_that_make_it_fail() -> None:
    history = draw(1, 40)
    culprits = {history[7], history[31]}

    def fails(steps: Sequence[Step]) -> bool:
        return culprits <= set(steps)

    assert shortened(history, fails) == [history[7], history[31]]
