"""What stands beside an achievement: the ones related to it, and what others say for it."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from obms.badges import Site
from obms.domain import Achievement, Endorsement, Related
from obms.errors import Conflict, NotFound
from obms.schema import achievements, endorsements, related_achievements

LIMIT = 50
# How much stands beside an achievement, asked in the same query as its row.
COUNT = (
    sa.select(sa.func.count())
    .select_from(related_achievements)
    .where(related_achievements.c.achievement_id == achievements.c.id)
    .scalar_subquery()
    + sa.select(sa.func.count())
    .select_from(endorsements)
    .where(endorsements.c.achievement_id == achievements.c.id)
    .scalar_subquery()
).label("beside")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What is kept beside one achievement, oldest first."""

    related: tuple[Related, ...] = ()
    endorsements: tuple[Endorsement, ...] = ()


def read(connection: sa.Connection, ids: Iterable[str]) -> dict[str, Beside]:
    """What stands beside these achievements; those that have nothing are left out."""
    wanted, found = set(ids), dict[str, Beside]()
    for row in connection.execute(_of(related_achievements, wanted)):
        beside = found.get(row.achievement_id, Beside())
        one = Related(id=row.related_id, in_language=row.in_language, version=row.version)
        found[row.achievement_id] = replace(beside, related=(*beside.related, one))
    for row in connection.execute(_of(endorsements, wanted)):
        beside = found.get(row.achievement_id, Beside())
        said = Endorsement(id=row.id, document=row.document, proven=row.proven)
        found[row.achievement_id] = replace(beside, endorsements=(*beside.endorsements, said))
    return found


def _of(table: sa.Table, ids: set[str]) -> sa.Select[Any]:
    return sa.select(table).where(table.c.achievement_id.in_(ids)).order_by(table.c.created_at, table.c.id)


def related_row(achievement_id: str, related: Related) -> dict[str, Any]:
    """The row but for its time; its id is made of both ends, so that each pair has one."""
    return {
        "id": str(uuid.uuid5(uuid.UUID(achievement_id), related.id)),
        "achievement_id": achievement_id,
        "related_id": related.id,
        "in_language": related.in_language,
        "version": related.version,
    }


def endorsement_row(achievement_id: str, endorsement: Endorsement) -> dict[str, Any]:
    return {
        "id": endorsement.id,
        "achievement_id": achievement_id,
        "document": endorsement.document,
        "proven": endorsement.proven,
    }


def keep(connection: sa.Connection, site: Site, achievement: Achievement) -> None:
    """Write down what an achievement has beside it."""
    for related in achievement.related:
        add_related(connection, site, achievement.id, related)
    for endorsement in achievement.endorsements:
        add_endorsement(connection, site, achievement.id, endorsement)


def change(connection: sa.Connection, site: Site, held: Achievement, achievement: Achievement) -> None:
    """Write down what has come to stand beside an achievement in place of what is held."""
    if (held.related, held.endorsements) != (achievement.related, achievement.endorsements):
        forget(connection, achievement.id)
        keep(connection, site, achievement)


def forget(connection: sa.Connection, achievement_id: str) -> None:
    """Remove what stands beside an achievement."""
    for table in (related_achievements, endorsements):
        connection.execute(sa.delete(table).where(table.c.achievement_id == achievement_id))


def add_related(connection: sa.Connection, site: Site, achievement_id: str, related: Related) -> None:
    """Relate an achievement to another; what was said of the pair before is replaced.

    Conflict if it is the same one, or there are as many as may be; NotFound if one of ours is not there.
    """
    if related.id == achievement_id:
        raise Conflict(detail="An achievement is not related to itself")
    _require_ours(connection, related.id)
    row = related_row(achievement_id, related)
    connection.execute(sa.delete(related_achievements).where(related_achievements.c.id == row["id"]))
    _require_room(connection, related_achievements, achievement_id)
    connection.execute(sa.insert(related_achievements).values(**row, created_at=site.clock()))


def _require_ours(connection: sa.Connection, id: str) -> None:
    if ":" in id:
        return
    if connection.execute(sa.select(achievements.c.id).where(achievements.c.id == id)).first() is None:
        raise NotFound(what="achievement", id=id)


def _require_room(connection: sa.Connection, table: sa.Table, achievement_id: str) -> None:
    count = sa.select(sa.func.count()).select_from(table).where(table.c.achievement_id == achievement_id)
    if connection.execute(count).scalar_one() >= LIMIT:
        what = table.name.replace("_", " ")
        raise Conflict(
            detail=f"The achievement {achievement_id} has {LIMIT} {what}, which is as many as may be"
        )


def remove_related(connection: sa.Connection, achievement_id: str, related_id: str) -> None:
    """End the relation of an achievement to another; NotFound if there is none."""
    table = related_achievements
    this = sa.and_(table.c.achievement_id == achievement_id, table.c.related_id == related_id)
    if connection.execute(sa.delete(table).where(this)).rowcount == 0:
        raise NotFound(what="related achievement", id=related_id)


def add_endorsement(
    connection: sa.Connection, site: Site, achievement_id: str, endorsement: Endorsement
) -> None:
    """Keep what somebody says for an achievement; Conflict if there is as much as may be."""
    _require_room(connection, endorsements, achievement_id)
    row = endorsement_row(achievement_id, endorsement)
    connection.execute(sa.insert(endorsements).values(**row, created_at=site.clock()))


def unrelate(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Let nothing refer to these achievements any more."""
    connection.execute(sa.delete(related_achievements).where(related_achievements.c.related_id.in_(ids)))
