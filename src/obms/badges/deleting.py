"""Deleting: what others depend on is refused or goes as a whole, and no badge comes back to life."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from obms.badges import Site, profiles, relations, statuses
from obms.badges.standings import read_standing
from obms.domain import REVOCATION
from obms.errors import Conflict
from obms.schema import achievements, credentials, issuers

BATCH = 500
Standing = dict[str, Any]


def delete_achievement(
    connection: sa.Connection, site: Site, achievement_id: str, *, cascade: bool
) -> list[Standing]:
    """Remove an achievement; with `cascade` its credentials too, else Conflict if it has some.

    Gives where each credential stands then, to be kept outside the database after the commit.
    """
    profiles.find_achievement(connection, achievement_id)
    return _remove_achievements(connection, site, achievements.c.id == achievement_id, cascade=cascade)


def delete_issuer(connection: sa.Connection, site: Site, issuer_id: str, *, cascade: bool) -> list[Standing]:
    """Take an issuer out of the API; with `cascade` all that it made too, else Conflict if there is some.

    Its row, keys and lists stay: whoever holds one of its badges is told that it does not count any more,
    and not that nothing can be known. So do the roles at it, for when it is brought back.
    """
    profiles.find_issuer(connection, issuer_id)
    mine = achievements.c.issuer_id == issuer_id
    if not cascade:
        _refuse(connection, "achievements", sa.select(achievements.c.id).where(mine))
    standings = _remove_achievements(connection, site, mine, cascade=cascade)
    now = site.clock()
    connection.execute(
        sa.update(issuers).where(issuers.c.id == issuer_id).values(deleted_at=now, updated_at=now)
    )
    return standings


def _refuse(connection: sa.Connection, what: str, dependants: sa.Select[Any]) -> None:
    count = connection.execute(sa.select(sa.func.count()).select_from(dependants.subquery())).scalar_one()
    if count:
        raise Conflict(detail=f"{count} {what} depend on it; ?cascade=true deletes them too")


def _remove_achievements(
    connection: sa.Connection, site: Site, which: sa.ColumnElement[bool], *, cascade: bool
) -> list[Standing]:
    held = sa.select(credentials.c.id).where(
        credentials.c.achievement_id.in_(sa.select(achievements.c.id).where(which))
    )
    if not cascade:
        _refuse(connection, "credentials", held)
    standings = [
        standing for ids in _batches(connection, held) for standing in _remove(connection, site, ids)
    ]
    for ids in _batches(connection, sa.select(achievements.c.id).where(which)):
        relations.unrelate(connection, ids)
        for id in ids:
            relations.forget(connection, id)
        connection.execute(sa.delete(achievements).where(achievements.c.id.in_(ids)))
    return standings


def _batches(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Sequence[str]]:
    """The ids that a query finds, until it finds none: each batch has to be removed before the next."""
    while ids := connection.execute(query.limit(BATCH)).scalars().all():
        yield ids


def _remove(connection: sa.Connection, site: Site, ids: Sequence[str]) -> Iterator[Standing]:
    for id in ids:
        statuses.withdraw(connection, site, id)
    connection.execute(sa.delete(credentials).where(credentials.c.id.in_(ids)))
    for id in ids:
        yield read_standing(connection, id, REVOCATION)
