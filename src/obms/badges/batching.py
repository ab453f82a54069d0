"""Issuing many at once: what they share is looked up once, and all rows are written together.

In three steps, of which the one in the middle takes the time and needs no database: a list of places
is locked from when places are taken until the transaction ends.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa

from obms.badges import Site, issuing, keys, profiles, statuses
from obms.badges.credentials import Kept
from obms.badges.issuing import Order, credential_of, credential_row, require_described
from obms.databases.many import insert_all
from obms.domain import Achievement, Issuer, StatusEntry
from obms.errors import ObmsError
from obms.schema import credentials, status_entries

Allow = Callable[[str], None]
Outcome = Kept | ObmsError
Given = ParamSpec("Given")
Done = TypeVar("Done")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An order that may be issued, with all that signing it takes."""

    order: Order
    achievement: Achievement
    issuer: Issuer
    key: keys.SigningKey
    entries: tuple[StatusEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A credential that is to be kept; `text` is what is sent of it."""

    row: dict[str, Any]
    text: str
    entries: tuple[StatusEntry, ...]


def issue_many(connection: sa.Connection, site: Site, orders: Sequence[Order], allow: Allow) -> list[Outcome]:
    """Issue and keep each that can be; in their order, each kept credential or why there is none.

    `allow` raises the error of all that may not be issued for an issuer.
    """
    prepared = prepare(connection, site, [(order, allow) for order in orders])
    return keep_all(connection, [sign(site, each) for each in prepared])


def prepare(
    connection: sa.Connection, site: Site, wanted: Sequence[tuple[Order, Allow]]
) -> list[Prepared | ObmsError]:
    """Look up what the orders need, and take their places: never given again, whatever follows."""
    look_up = _look_up(connection)
    found = [_attempt(look_up, order, allow) for order, allow in wanted]
    counted = Counter(each[1].id for each in found if not isinstance(each, ObmsError))
    places = {
        id: iter(statuses.take_many(connection, site, id, count)) for id, count in sorted(counted.items())
    }
    key = cache(partial(keys.active_key, connection, site))

    def complete(order: Order, achievement: Achievement, issuer: Issuer) -> Prepared:
        return Prepared(
            order=order,
            achievement=achievement,
            issuer=issuer,
            key=key(issuer.id, keys.algorithm_for(order.proof, order.alg)),
            entries=next(places[issuer.id]),
        )

    return [
        each if isinstance(each, ObmsError) else _attempt(complete, order, *each)
        for (order, _), each in zip(wanted, found, strict=True)
    ]


def _look_up(connection: sa.Connection) -> Callable[[Order, Allow], tuple[Achievement, Issuer]]:
    """What finds the achievement and the issuer of an order that is allowed, each once."""
    find_achievement = cache(partial(profiles.find_achievement, connection))
    find_issuer = cache(partial(profiles.find_issuer, connection))

    def look_up(order: Order, allow: Allow) -> tuple[Achievement, Issuer]:
        achievement = find_achievement(order.achievement_id)
        allow(achievement.issuer_id)
        issuer = find_issuer(achievement.issuer_id)
        require_described(order.results, achievement)
        return achievement, issuer

    return look_up


def _attempt(work: Callable[Given, Done], *given: Given.args, **named: Given.kwargs) -> Done | ObmsError:
    """What it gives, or the deliberate error that it raises."""
    try:
        return work(*given, **named)
    except ObmsError as error:
        return error


def sign(site: Site, prepared: Prepared | ObmsError) -> Signed | ObmsError:
    """The order signed, or why it cannot be."""
    return prepared if isinstance(prepared, ObmsError) else _attempt(_sign, site, prepared)


def _sign(site: Site, prepared: Prepared) -> Signed:
    order, id = prepared.order, str(uuid.uuid4())
    credential = credential_of(id, order, prepared.issuer, prepared.achievement, prepared.entries)
    signed = issuing.sign(site, prepared.key, credential, order.proof)
    row = credential_row(credential, prepared.key.id, order.proof, signed.document)
    row["created_at"] = site.clock()
    return Signed(row=row, text=signed.text, entries=prepared.entries)


def keep_all(connection: sa.Connection, signed: Sequence[Signed | ObmsError]) -> list[Outcome]:
    """Write the rows of what was signed."""
    good = [each for each in signed if isinstance(each, Signed)]
    if good:
        places = [row for each in good for row in statuses.entry_rows(each.row["id"], each.entries)]
        insert_all(connection, {credentials: [each.row for each in good], status_entries: places})
    return [each if isinstance(each, ObmsError) else Kept(**each.row) for each in signed]
