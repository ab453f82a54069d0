"""Two databases compared row by row, in the order of the keys: read once each, and never held in memory."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedColumn

from obms.databases import Database
from obms.databases.postgresql_sessions import UNHURRIED

BATCH = 1000

Kind = Literal["added", "changed", "deleted"]
Key = tuple[int | str, ...]
Row = tuple[Key, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A table of the one and the other, None where there is none, and what of it is compared.

    `columns` are those that both have; `key` is empty where the whole row has to stand for it.
    """

    name: str
    first: sa.Connection | None
    second: sa.Connection | None
    key: tuple[str, ...]
    columns: Mapping[str, ReflectedColumn]

    @classmethod
    def of(cls, first: sa.Connection, second: sa.Connection, name: str) -> "Pair":
        sides = [side if sa.inspect(side).has_table(name) else None for side in (first, second)]
        there = [side for side in sides if side is not None]
        keys = {tuple(sa.inspect(side).get_pk_constraint(name)["constrained_columns"]) for side in there}
        found = [{column["name"]: column for column in sa.inspect(side).get_columns(name)} for side in there]
        names = set.intersection(*(set(columns) for columns in found))
        return cls(
            name=name,
            first=sides[0],
            second=sides[1],
            key=keys.pop() if len(keys) == 1 else (),
            columns={name: found[0][name] for name in sorted(names)},
        )


@contextmanager
def one_moment(database: Database) -> Iterator[sa.Connection]:
    """A connection that sees one moment of the database from its first reading to its end."""
    with database.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            connection.exec_driver_sql(UNHURRIED)
        yield connection


def differing(pair: Pair) -> Iterator[tuple[Kind, Key]]:
    """What happened from the first to the second: each row that differs, by its key."""
    return merge(keyed_rows(pair.first, pair), keyed_rows(pair.second, pair))


def merge(first: Iterator[Row], second: Iterator[Row]) -> Iterator[tuple[Kind, Key]]:
    """Both must be in the order of the keys."""
    left, right = next(first, None), next(second, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] < right[0]):
            assert left is not None
            yield "deleted", left[0]
            left = next(first, None)
        elif left is None or right[0] < left[0]:
            yield "added", right[0]
            right = next(second, None)
        else:
            if left[1] != right[1]:
                yield "changed", left[0]
            left, right = next(first, None), next(second, None)


def keyed_rows(connection: sa.Connection | None, pair: Pair) -> Iterator[Row]:
    """The key of each row and a hash of its canonical form, in the order of the keys.

    The order is the same on both kinds: numbers by value, text by its bytes in UTF-8.
    """
    if connection is None:
        return
    dialect = connection.dialect
    line = _line(dialect, pair)
    parts = [_key_part(dialect, pair.columns[name]) for name in pair.key] or [_text_part(dialect, line)]
    hashed = line
    if dialect.name == "postgresql":
        hashed = f"encode(sha256(convert_to({line}, 'UTF8')), 'hex')"
    query = sa.select(
        *(_named(number, text) for number, text in enumerate((*(key for key, _ in parts), hashed)))
    )
    query = query.select_from(sa.table(pair.name)).order_by(*(sa.literal_column(order) for _, order in parts))
    size = len(parts)
    for row in connection.execute(query, execution_options={"yield_per": BATCH}):
        yield tuple(row[:size]), _hash(dialect, row[size])


def _line(dialect: sa.Dialect, pair: Pair) -> str:
    columns = (pair.columns[name] for name in pair.columns)
    return _row_text(_column_text(dialect, column) for column in columns)


def _key_part(dialect: sa.Dialect, column: ReflectedColumn) -> tuple[str, str]:
    """The SQL of a part of the key, and what to order by."""
    quoted, text = dialect.identifier_preparer.quote(column["name"]), _column_text(dialect, column)
    if isinstance(column["type"], sa.Integer):
        return quoted, quoted
    # SQLite orders the column by its index, and its texts by their bytes.
    return _text_part(dialect, text) if dialect.name == "postgresql" else (text, quoted)


def _text_part(dialect: sa.Dialect, text: str) -> tuple[str, str]:
    return text, f'({text}) COLLATE "C"' if dialect.name == "postgresql" else text


def _named(number: int, text: str) -> sa.Label[Any]:
    return sa.literal_column(text).label(f"part_{number}")


def _hash(dialect: sa.Dialect, found: str) -> str:
    return found if dialect.name == "postgresql" else hashlib.sha256(found.encode()).hexdigest()


def changed_columns(pair: Pair, key: Key) -> tuple[str, ...]:
    """The columns in which the two rows of this key differ."""
    assert pair.first is not None
    assert pair.second is not None
    left, right = _texts(pair.first, pair, key), _texts(pair.second, pair, key)
    return tuple(name for name in pair.columns if left[name] != right[name])


def _texts(connection: sa.Connection, pair: Pair, key: Key) -> Mapping[str, str | None]:
    dialect = connection.dialect
    columns: list[sa.Label[str | None]] = [
        sa.literal_column(_column_text(dialect, column)).label(name) for name, column in pair.columns.items()
    ]
    query = sa.select(*columns).select_from(sa.table(pair.name))
    for name, value in zip(pair.key, key, strict=True):
        column = pair.columns[name]
        plain = isinstance(column["type"], sa.Integer | sa.String)
        text = _column_text(dialect, column)
        found: sa.ColumnElement[Any] = sa.column(name) if plain else sa.literal_column(text)
        query = query.where(found == value)
    return dict(connection.execute(query).mappings().one())


def _row_text(texts: Iterable[str]) -> str:
    """The SQL of a row as one text: each column as `length:text`, the length in bytes, or `~` for NULL.

    concat() takes NULL for nothing.
    """
    columns = (f"coalesce(octet_length({text}) || ':', '~'), {text}" for text in texts)
    return f"concat({', '.join(columns)})"


def _column_text(dialect: sa.Dialect, column: ReflectedColumn) -> str:
    """The SQL of the text of a column, the same on both kinds."""
    spell = _postgresql_text if dialect.name == "postgresql" else _sqlite_text
    return spell(dialect.identifier_preparer.quote(column["name"]), column["type"])


def _postgresql_text(column: str, kind: sa.types.TypeEngine[Any]) -> str:
    if isinstance(kind, sa.types._Binary):  # noqa: SLF001 - the only common base of BYTEA and BLOB
        return f"upper(encode({column}, 'hex'))"
    if isinstance(kind, sa.Boolean):
        return f"{column}::int::text"
    if isinstance(kind, sa.DateTime):
        return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
    return f"{column}::text"


def _sqlite_text(column: str, kind: sa.types.TypeEngine[Any]) -> str:
    return f"hex({column})" if isinstance(kind, sa.types._Binary) else f"CAST({column} AS TEXT)"  # noqa: SLF001
