"""Many rows, written at once."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

Rows = Sequence[Mapping[str, Any]]


def insert_many(connection: sa.Connection, table: sa.Table, rows: Rows) -> None:
    """Insert rows, all with the same members."""
    if rows:
        insert_all(connection, {table: rows})


def insert_all(connection: sa.Connection, wanted: Mapping[sa.Table, Rows]) -> None:
    """As `insert_many`, into several tables, none of which refers to another; of each there are some.

    PostgreSQL gets one statement and reads the rows from one value for each table: row by row it would
    be as many statements to it, and to its driver.
    """
    if connection.dialect.name != "postgresql":
        for table, rows in wanted.items():
            connection.execute(_insert(table), rows)
        return
    statement = _insert_from_text(tuple((table, tuple(rows[0])) for table, rows in wanted.items()))
    connection.execute(statement, {table.name: _text(rows) for table, rows in wanted.items()})


@lru_cache
def _insert(table: sa.Table) -> sa.Insert:
    return sa.insert(table)


@lru_cache
def _insert_from_text(wanted: tuple[tuple[sa.Table, tuple[str, ...]], ...]) -> sa.TextClause:
    *others, last = (_one_insert(table.name, ", ".join(names)) for table, names in wanted)
    before = ", ".join(f"part{number} AS ({other})" for number, other in enumerate(others))
    return sa.text(f"WITH {before} {last}" if before else last)


def _one_insert(name: str, columns: str) -> str:
    return (
        f"INSERT INTO {name} ({columns})"  # noqa: S608 - names of the schema
        f" SELECT {columns} FROM json_populate_recordset(NULL::{name}, CAST(:{name} AS json))"
    )


def _text(rows: Rows) -> str:
    return json.dumps(rows, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_time)


def _time(value: object) -> str:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError(f"{value!r} cannot be written: every time carries its zone")
    return value.isoformat()
