"""Issuers and achievements: kept, read and listed."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Protocol

import sqlalchemy as sa

from obms.badges import Site, keys, statuses
from obms.domain import Achievement, Alignment, Criteria, Image, Issuer
from obms.errors import NotFound
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
    return Issuer(**{**dict(row), "image": read_image(row["image"]), "extra": row["extra"] or {}})


def achievement_row(achievement: Achievement) -> dict[str, Any]:
    extra = present({"version": achievement.version})
    if achievement.alignments:
        extra["alignments"] = [present(asdict(alignment)) for alignment in achievement.alignments]
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


def read_achievement(row: Row) -> Achievement:
    extra = row["extra"] or {}
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
    return achievement


def find_issuer(connection: sa.Connection, issuer_id: str) -> Issuer:
    """The issuer, or NotFound."""
    row = connection.execute(sa.select(issuers).where(issuers.c.id == issuer_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(what="issuer", id=issuer_id)
    return read_issuer(row)


def find_achievement(connection: sa.Connection, achievement_id: str) -> Achievement:
    """The achievement, or NotFound."""
    query = sa.select(achievements).where(achievements.c.id == achievement_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(what="achievement", id=achievement_id)
    return read_achievement(row)


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
    rows, total = page_of(connection, issuers, page)
    return [read_issuer(row) for row in rows], total


def list_achievements(
    connection: sa.Connection, page: Page, *, issuer_id: str | None = None
) -> tuple[list[Achievement], int]:
    """A page of the achievements of one issuer, or of all."""
    conditions = () if issuer_id is None else (achievements.c.issuer_id == issuer_id,)
    rows, total = page_of(connection, achievements, page, *conditions)
    return [read_achievement(row) for row in rows], total
