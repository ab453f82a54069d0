"""Digests of tables, equal for equal rows on SQLite and PostgreSQL, in whatever order the rows are.

The canonical form of a row: its columns in the order of their names, each as `length:text`, or `~`
for NULL. Text is itself, a number is decimal, a boolean 0 or 1, bytes are upper-case hex, a time is
`YYYY-MM-DD HH:MM:SS.ffffff` in UTC, JSON is the text PostgreSQL gives a jsonb. The digest of a
table is the sum of the first two 64-bit words of the SHA-256 of each row, each modulo 2**64.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedColumn

WORD = 1 << 64
REVISION_TABLE = "alembic_version"


def canonical_json(value: object) -> str:
    """JSON as PostgreSQL prints a jsonb: keys by length, then bytes; `, ` and `: ` between.

    ValueError for what jsonb cannot hold (NaN, infinity).
    """
    if isinstance(value, dict):
        keys = sorted((str(key) for key in value), key=lambda key: (len(key.encode()), key.encode()))
        return "{" + ", ".join(f"{_scalar(key)}: {canonical_json(value[key])}" for key in keys) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(canonical_json(item) for item in value) + "]"
    return _scalar(value)


def _scalar(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return format(Decimal(repr(value + 0.0)), "f")  # no exponent and no negative zero, as numeric
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def tables(connection: sa.Connection) -> list[str]:
    """The tables of this database in the order of their names, Alembic's own left out."""
    return sorted(name for name in sa.inspect(connection).get_table_names() if name != REVISION_TABLE)


def revision(connection: sa.Connection) -> str | None:
    """The schema revision, None where Alembic never was."""
    if not sa.inspect(connection).has_table(REVISION_TABLE):
        return None
    found = connection.execute(sa.text(f"SELECT version_num FROM {REVISION_TABLE}")).scalar()  # noqa: S608
    return None if found is None else str(found)


def count(connection: sa.Connection, names: Sequence[str]) -> dict[str, int]:
    """Rows of each table."""
    quote = connection.dialect.identifier_preparer.quote
    return {
        name: connection.execute(sa.text(f"SELECT count(*) FROM {quote(name)}")).scalar_one()  # noqa: S608
        for name in names
    }


def digest(connection: sa.Connection, name: str) -> str:
    """The digest of one table: 32 hex digits. PostgreSQL computes it itself; of SQLite each row is read."""
    columns = sorted(sa.inspect(connection).get_columns(name), key=lambda column: column["name"])
    if connection.dialect.name == "postgresql":
        words = _postgresql_words(connection, name, columns)
    else:
        words = _sqlite_words(connection, name, columns)
    return "".join(f"{int(word) % WORD:016x}" for word in words)


def row_text(texts: Iterable[str]) -> str:
    """The SQL of the canonical form of a row, of that of each column."""
    return " || ".join(f"coalesce(length({text}) || ':' || {text}, '~')" for text in texts)


def column_text(dialect: sa.Dialect, column: ReflectedColumn) -> str:
    """The SQL of the canonical text of a column."""
    spell = _postgresql_text if dialect.name == "postgresql" else _sqlite_text
    return spell(dialect.identifier_preparer.quote(column["name"]), column["type"])


def _postgresql_words(
    connection: sa.Connection, name: str, columns: Sequence[ReflectedColumn]
) -> tuple[int, int]:
    quote = connection.dialect.identifier_preparer.quote
    row = row_text(_postgresql_text(quote(column["name"]), column["type"]) for column in columns)
    query = f"""
        SELECT coalesce(sum(('x' || substr(h, 1, 16))::bit(64)::bigint), 0),
               coalesce(sum(('x' || substr(h, 17, 16))::bit(64)::bigint), 0)
        FROM (SELECT encode(sha256(convert_to({row}, 'UTF8')), 'hex') AS h FROM {quote(name)}) AS hashes
    """  # noqa: S608 - the names are quoted by the dialect
    high, low = connection.exec_driver_sql(query.replace("%", "%%")).one()
    return high, low


def _postgresql_text(column: str, kind: sa.types.TypeEngine[Any]) -> str:
    if isinstance(kind, sa.types._Binary):  # noqa: SLF001 - the only common base of BYTEA and BLOB
        return f"upper(encode({column}, 'hex'))"
    if isinstance(kind, sa.Boolean):
        return f"{column}::int::text"
    if isinstance(kind, sa.DateTime):
        return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
    return f"{column}::text"


def _sqlite_words(
    connection: sa.Connection, name: str, columns: Sequence[ReflectedColumn]
) -> tuple[int, int]:
    quote = connection.dialect.identifier_preparer.quote
    row = row_text(_sqlite_text(quote(column["name"]), column["type"]) for column in columns)
    high = low = 0
    query = f"SELECT CAST({row} AS BLOB) FROM {quote(name)}"  # noqa: S608 - the names are quoted by the dialect
    cursor: Any = connection.exec_driver_sql(query).cursor
    sha256, words = hashlib.sha256, struct.Struct(">qq").unpack_from
    try:
        for (text,) in cursor:
            first, second = words(sha256(text).digest())
            high += first
            low += second
    except connection.dialect.loaded_dbapi.Error as error:  # the driver's cursor raises the driver's errors
        raise sa.exc.DatabaseError(query, None, error) from error
    return high, low


def _sqlite_text(column: str, kind: sa.types.TypeEngine[Any]) -> str:
    return f"hex({column})" if isinstance(kind, sa.types._Binary) else f"CAST({column} AS TEXT)"  # noqa: SLF001
