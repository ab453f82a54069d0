"""Rows brought from an older copy into the live database: inserted where missing, compared where there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from obms.badges import Site

BATCH = 500
# What became of a row: it was missing, there and equal, there and newer, replaced, or stands in the way.
INSERTED, EQUAL, KEPT, OVERWRITTEN, REFUSED = "inserted", "equal", "kept", "overwritten", "refused"

Row = sa.RowMapping | dict[str, Any]


class Outcome(NamedTuple):
    """What became of one row; `columns` or a reason in `detail`."""

    table: str
    what: str
    id: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bringing:
    """From where to where; `overwrite` puts older rows over newer ones that were asked for."""

    old: sa.Connection
    new: sa.Connection
    overwrite: bool
    site: Site


def missing_ids(new: sa.Connection, table: sa.Table, ids: Sequence[str]) -> set[str]:
    return set(ids) - set(new.execute(sa.select(table.c.id).where(table.c.id.in_(ids))).scalars())


def bring_rows(
    bringing: Bringing, table: sa.Table, rows: Sequence[Row], *, asked: bool = False, by: str = "id"
) -> Iterator[Outcome]:
    """Insert what is missing by its `by`; of what was asked for and differs, tell or overwrite it."""
    for start in range(0, len(rows), BATCH):
        yield from _bring_batch(bringing, table, rows[start : start + BATCH], table.c[by], asked=asked)


def _bring_batch(
    bringing: Bringing, table: sa.Table, rows: Sequence[Row], by: sa.Column[Any], *, asked: bool
) -> Iterator[Outcome]:
    names = [row[by.name] for row in rows]
    found = bringing.new.execute(sa.select(table).where(by.in_(names))).mappings()
    there: dict[Any, dict[str, Any]] = {row[by.name]: {**row} for row in found}
    fresh = [dict(row) for row in rows if row[by.name] not in there]
    if fresh:
        bringing.new.execute(sa.insert(table), fresh)
    for row in rows:
        id = str(row[by.name])
        if row[by.name] not in there:
            yield Outcome(table.name, INSERTED, id)
        else:
            yield _compare(bringing, table, row, there[row[by.name]], id=id, asked=asked)


def _compare(
    bringing: Bringing, table: sa.Table, row: Row, held: dict[str, Any], *, id: str, asked: bool
) -> Outcome:
    columns = ", ".join(name for name in sorted(held) if held[name] != row[name])
    if not columns:
        return Outcome(table.name, EQUAL, id)
    if not asked:
        return Outcome(table.name, KEPT, id, columns)
    if not bringing.overwrite:
        return Outcome(table.name, REFUSED, id, columns)
    bringing.new.execute(sa.update(table).where(table.c.id == row["id"]).values(dict(row)))
    return Outcome(table.name, OVERWRITTEN, id, columns)
