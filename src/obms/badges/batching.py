"""Issuing many at once: what they share is looked up once, and all rows are written together."""

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from obms.badges import Site, keys, profiles, statuses
from obms.badges.credentials import Kept
from obms.badges.issuing import Order, credential_of, require_described, signed_row
from obms.domain import Achievement, Algorithm, Issuer, StatusEntry
from obms.errors import ObmsError
from obms.schema import credentials

Outcome = Kept | ObmsError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """An order that may be issued, with what it refers to."""

    order: Order
    achievement: Achievement
    issuer: Issuer


def issue_many(
    connection: sa.Connection, site: Site, orders: Sequence[Order], allow: Callable[[str], None]
) -> list[Outcome]:
    """Issue and keep each that can be; in their order, each kept credential or why there is none.

    `allow` is asked for each issuer once, and raises the error of all that may not be issued for it.
    """
    shared = _Shared(connection, site, allow)
    found = [shared.read(order) for order in orders]
    ready = [each for each in found if isinstance(each, _Ready)]
    counted = Counter(each.issuer.id for each in ready)
    places = {
        id: iter(statuses.take_many(connection, site, id, count)) for id, count in sorted(counted.items())
    }
    outcomes: list[Outcome] = []
    entries: list[tuple[str, tuple[StatusEntry, ...]]] = []
    rows: list[dict[str, Any]] = []
    for each in found:
        if isinstance(each, ObmsError):
            outcomes.append(each)
            continue
        id, held = str(uuid.uuid4()), next(places[each.issuer.id])
        try:
            row = shared.sign(id, each, held)
        except ObmsError as error:
            outcomes.append(error)
            continue
        rows.append(row)
        entries.append((id, held))
        outcomes.append(Kept(**row))
    if rows:
        connection.execute(sa.insert(credentials), rows)
        statuses.add_all_entries(connection, entries)
    return outcomes


class _Shared:
    """What the orders of one batch have in common, looked up once."""

    def __init__(self, connection: sa.Connection, site: Site, allow: Callable[[str], None]) -> None:
        self._connection, self._site, self._allow = connection, site, allow
        self._found: dict[str, _Found | ObmsError] = {}
        self._keys: dict[tuple[str, Algorithm], keys.SigningKey] = {}

    def read(self, order: Order) -> _Ready | ObmsError:
        if order.achievement_id not in self._found:
            self._found[order.achievement_id] = self._look_up(order.achievement_id)
        found = self._found[order.achievement_id]
        if isinstance(found, ObmsError):
            return found
        achievement, issuer = found
        try:
            require_described(order.results, achievement)
        except ObmsError as error:
            return error
        return _Ready(order=order, achievement=achievement, issuer=issuer)

    def _look_up(self, achievement_id: str) -> "_Found | ObmsError":
        try:
            achievement = profiles.find_achievement(self._connection, achievement_id)
            self._allow(achievement.issuer_id)
            return achievement, profiles.find_issuer(self._connection, achievement.issuer_id)
        except ObmsError as error:
            return error

    def sign(self, id: str, ready: _Ready, entries: tuple[StatusEntry, ...]) -> dict[str, Any]:
        """The whole row; Invalid for what cannot be signed."""
        order, issuer = ready.order, ready.issuer
        credential = credential_of(id, order, issuer, ready.achievement, entries)
        row = signed_row(self._site, self._key(issuer.id, order), credential, order.proof)
        return row | {"created_at": self._site.clock()}

    def _key(self, issuer_id: str, order: Order) -> keys.SigningKey:
        kind = issuer_id, keys.algorithm_for(order.proof, order.alg)
        if kind not in self._keys:
            self._keys[kind] = keys.active_key(self._connection, self._site, *kind)
        return self._keys[kind]


_Found = tuple[Achievement, Issuer]
