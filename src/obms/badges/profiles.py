"""Issuers and achievements: kept, changed, read and listed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

import sqlalchemy as sa

from obms.badges import Site, keys, relations, statuses
from obms.badges.building import build
from obms.domain import Achievement, Alignment, Criteria, Image, Issuer, ResultDescription
from obms.errors import Invalid, NotFound
from obms.schema import achievements, issuers

Row = sa.RowMapping


def present(members: Mapping[str, Any]) -> dict[str, Any]:
    """The members that are not None, as they are kept in a JSON column."""
    return {name: value for name, value in members.items() if value is not None}


def image_json(image: Image | None) -> dict[str, Any] | None:
    return present(asdict(image)) if image else None


def read_image(value: Mapping[str, Any] | None) -> Image | None:
    return Image(**value) if value else None


def issuer_row(issuer: Issuer) -> dict[str, Any]:
    return {
        "id": issuer.id,
        "name": issuer.name,
        "url": issuer.url,
        "email": issuer.email,
        "description": issuer.description,
        "image": image_json(issuer.image),
        "extra": dict(issuer.extra) or None,
        "created_at": issuer.created_at,
        "updated_at": issuer.updated_at,
    }


def read_issuer(row: Row) -> Issuer:
    members = {name: value for name, value in row.items() if name != "deleted_at"}
    return Issuer(**{**members, "image": read_image(row["image"]), "extra": row["extra"] or {}})


def achievement_row(achievement: Achievement) -> dict[str, Any]:
    extra = present({"version": achievement.version, "previous_version": achievement.previous_version})
    if achievement.alignments:
        extra["alignments"] = [present(asdict(alignment)) for alignment in achievement.alignments]
    if achievement.result_descriptions:
        extra["result_descriptions"] = [asdict(each) for each in achievement.result_descriptions]
    return {
        "id": achievement.id,
        "issuer_id": achievement.issuer_id,
        "name": achievement.name,
        "description": achievement.description,
        "achievement_type": achievement.achievement_type,
        "criteria": present(asdict(achievement.criteria)),
        "image": image_json(achievement.image),
        "tags": list(achievement.tags),
        "extra": extra or None,
        "created_at": achievement.created_at,
        "updated_at": achievement.updated_at,
    }


def read_achievement(row: Row, beside: relations.Beside | None = None) -> Achievement:
    """The achievement of a row; `beside` is what other tables keep of it."""
    extra, beside = row["extra"] or {}, beside or relations.Beside()
    return Achievement(
        id=row["id"],
        issuer_id=row["issuer_id"],
        name=row["name"],
        description=row["description"],
        achievement_type=row["achievement_type"],
        criteria=Criteria(**(row["criteria"] or {})),
        image=read_image(row["image"]),
        tags=tuple(row["tags"] or ()),
        alignments=tuple(Alignment(**alignment) for alignment in extra.get("alignments", ())),
        version=extra.get("version"),
        previous_version=extra.get("previous_version"),
        result_descriptions=build(ResultDescription, extra.get("result_descriptions", ())),
        related=beside.related,
        endorsements=beside.endorsements,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def add_issuer(connection: sa.Connection, site: Site, issuer: Issuer) -> Issuer:
    """Keep a new issuer, and give it its keys and its status lists, so that issuing finds them."""
    now = site.clock()
    issuer = replace(issuer, created_at=now, updated_at=now)
    connection.execute(sa.insert(issuers).values(issuer_row(issuer)))
    keys.make_keys(connection, site, issuer.id)
    statuses.open_lists(connection, site, issuer.id)
    return issuer


def add_achievement(connection: sa.Connection, site: Site, achievement: Achievement) -> Achievement:
    """Keep a new achievement; NotFound if its issuer is not there."""
    find_issuer(connection, achievement.issuer_id)
    now = site.clock()
    achievement = replace(achievement, created_at=now, updated_at=now)
    connection.execute(sa.insert(achievements).values(achievement_row(achievement)))
    relations.keep(connection, site, achievement)
    return achievement


def change_issuer(connection: sa.Connection, site: Site, issuer: Issuer) -> Issuer:
    """Put the whole of an issuer in place of what is kept; NotFound."""
    held = find_issuer(connection, issuer.id)
    issuer = replace(issuer, created_at=held.created_at, updated_at=site.clock())
    connection.execute(sa.update(issuers).where(issuers.c.id == issuer.id).values(issuer_row(issuer)))
    return issuer


def change_achievement(connection: sa.Connection, site: Site, achievement: Achievement) -> Achievement:
    """Put the whole of an achievement in place of what is kept; badges that were issued stay as signed.

    NotFound; Invalid where it would change hands, for its badges are signed by its issuer's keys.
    """
    held = find_achievement(connection, achievement.id)
    if held.issuer_id != achievement.issuer_id:
        raise Invalid(issuer=["an achievement cannot be given to another issuer"])
    achievement = replace(achievement, created_at=held.created_at, updated_at=site.clock())
    row = achievement_row(achievement)
    connection.execute(sa.update(achievements).where(achievements.c.id == achievement.id).values(row))
    relations.change(connection, site, held, achievement)
    return achievement


# Made once: to make a statement takes longer than to run it.
FIND_ISSUER = sa.select(issuers).where(issuers.c.id == sa.bindparam("id"), issuers.c.deleted_at.is_(None))
FIND_ACHIEVEMENT = sa.select(achievements, relations.COUNT).where(achievements.c.id == sa.bindparam("id"))


def find_issuer(connection: sa.Connection, issuer_id: str) -> Issuer:
    """The issuer, or NotFound; one that was deleted is not found."""
    row = connection.execute(FIND_ISSUER, {"id": issuer_id}).mappings().one_or_none()
    if row is None:
        raise NotFound(what="issuer", id=issuer_id)
    return read_issuer(row)


def require_known(connection: sa.Connection, issuer_id: str) -> None:
    """NotFound if there never was such an issuer: what it revoked is told of one that was deleted too."""
    if connection.execute(sa.select(issuers.c.id).where(issuers.c.id == issuer_id)).first() is None:
        raise NotFound(what="issuer", id=issuer_id)


def find_achievement(connection: sa.Connection, achievement_id: str) -> Achievement:
    """The achievement, or NotFound."""
    row = connection.execute(FIND_ACHIEVEMENT, {"id": achievement_id}).mappings().one_or_none()
    if row is None:
        raise NotFound(what="achievement", id=achievement_id)
    beside = relations.read(connection, [achievement_id]) if row["beside"] else {}
    return read_achievement(row, beside.get(achievement_id))


def find_achievements(connection: sa.Connection, ids: Iterable[str]) -> dict[str, Achievement]:
    """Those of these achievements that there are, by their ids."""
    query = sa.select(achievements).where(achievements.c.id.in_(set(ids)))
    found = _read_achievements(connection, connection.execute(query).mappings().all())
    return {achievement.id: achievement for achievement in found}


def _read_achievements(connection: sa.Connection, rows: Sequence[Row]) -> list[Achievement]:
    beside = relations.read(connection, [row["id"] for row in rows])
    return [read_achievement(row, beside.get(row["id"])) for row in rows]


class Page(Protocol):
    """Which part of a list is wanted."""

    @property
    def limit(self) -> int: ...
    @property
    def offset(self) -> int: ...


def page_of(
    connection: sa.Connection, table: sa.Table, page: Page, *conditions: sa.ColumnElement[bool]
) -> tuple[list[sa.RowMapping], int]:
    """The rows of one page, oldest first, and how many there are on all pages."""
    query = sa.select(table).where(*conditions).order_by(table.c.created_at, table.c.id)
    rows = connection.execute(query.limit(page.limit).offset(page.offset)).mappings().all()
    total = connection.execute(sa.select(sa.func.count()).select_from(table).where(*conditions)).scalar_one()
    return list(rows), total


def list_issuers(connection: sa.Connection, page: Page) -> tuple[list[Issuer], int]:
    rows, total = page_of(connection, issuers, page, issuers.c.deleted_at.is_(None))
    return [read_issuer(row) for row in rows], total


def list_achievements(
    connection: sa.Connection, page: Page, *, issuer_id: str | None = None
) -> tuple[list[Achievement], int]:
    """A page of the achievements of one issuer, or of all."""
    conditions = () if issuer_id is None else (achievements.c.issuer_id == issuer_id,)
    rows, total = page_of(connection, achievements, page, *conditions)
    return _read_achievements(connection, rows), total
