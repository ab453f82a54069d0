"""Digests of tables, equal for equal rows on SQLite and PostgreSQL, in whatever order the rows are.

The canonical form of a row is the line that PostgreSQL's COPY writes for it in its text format, the
columns in the order of their names, times in UTC, JSON as a jsonb prints it. So a dump is digested
while it is made, from the very lines that it consists of. The digest of a table is the sum of the
first 128 bits of the SHA-256 of each line, modulo 2**128.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedColumn

from obms.databases import Facts

REVISION_TABLE = "alembic_version"
BITS = 128
BYTES = BITS // 8
# What COPY writes otherwise than it is, and how; the backslash first, for the others bring one in.
ESCAPES = tuple((char, "\\" + name) for char, name in zip("\\\b\t\n\v\f\r", "\\btnvfr", strict=True))
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
SPECIAL = b"\\\b\t\n\v\f\r"
NULL = "\\N"
# What decides how PostgreSQL prints a value.
PRINTING = "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL bytea_output = 'hex'"


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
    return _encode(value)


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


def read_facts(connection: sa.Connection, *, deep: bool) -> Facts:
    """Revision and rows as this transaction sees them, with `deep` the digests too."""
    names = tables(connection)
    return Facts(
        revision=revision(connection),
        rows=count(connection, names),
        digests={name: digest(connection, name) for name in names} if deep else {},
    )


def spell(total: int) -> str:
    """A digest as it is shown: 32 hex digits."""
    return f"{total % (1 << BITS):032x}"


def digest(connection: sa.Connection, name: str) -> str:
    """The digest of one table, as this transaction sees it."""
    read_lines = _postgresql_lines if connection.dialect.name == "postgresql" else _sqlite_lines
    columns = sorted(sa.inspect(connection).get_columns(name), key=lambda column: column["name"])
    sha256, from_bytes = hashlib.sha256, int.from_bytes
    lines = read_lines(connection, name, columns)
    return spell(sum(from_bytes(sha256(line).digest()[:BYTES]) for line in lines))


def _postgresql_lines(
    connection: sa.Connection, name: str, columns: Sequence[ReflectedColumn]
) -> Iterator[bytes | memoryview]:
    connection.exec_driver_sql(PRINTING)
    quote = connection.dialect.identifier_preparer.quote
    names = ", ".join(quote(column["name"]) for column in columns)
    session: Any = connection.connection.driver_connection
    with session.cursor() as cursor, cursor.copy(f"COPY {quote(name)} ({names}) TO STDOUT") as lines:
        yield from lines


def _sqlite_lines(
    connection: sa.Connection, name: str, columns: Sequence[ReflectedColumn]
) -> Iterator[bytes]:
    """Each row as COPY would write it."""
    quote = connection.dialect.identifier_preparer.quote
    texts = [_text(quote(column["name"]), column["type"]) for column in columns]
    joined = ", char(9), ".join(f"coalesce({text}, '{NULL}')" for text in texts)
    nulls = " + ".join(f"({text} IS NULL)" for text in texts)
    query = f"SELECT CAST(concat({joined}, char(10)) AS BLOB), {nulls}, rowid FROM {quote(name)}"  # noqa: S608
    row = f"SELECT {', '.join(texts)} FROM {quote(name)} WHERE rowid = ?"  # noqa: S608 - quoted by the dialect
    cursor: Any = connection.exec_driver_sql(query).cursor
    try:
        for line, empty, rowid in cursor:
            # A tab between columns, a newline, a backslash for each NULL: what is more is in a value.
            if len(line) - len(line.translate(None, SPECIAL)) == len(texts) + empty:
                yield line
            else:
                yield _escaped(connection.exec_driver_sql(row, (rowid,)).one())
    except connection.dialect.loaded_dbapi.Error as error:  # the driver's cursor raises the driver's errors
        raise sa.exc.DatabaseError(query, None, error) from error


def _escaped(fields: Sequence[str | None]) -> bytes:
    """The line of these fields."""
    texts = (NULL if field is None else _escape(field) for field in fields)
    return ("\t".join(texts) + "\n").encode()


def _escape(field: str) -> str:
    """As COPY does. All at once, by `translate`, would take half a second for a picture."""
    for char, escaped in ESCAPES:
        field = field.replace(char, escaped)
    return field


def _text(column: str, kind: sa.types.TypeEngine[Any]) -> str:
    """The SQL of the text of a column of SQLite, as PostgreSQL prints the same value."""
    if isinstance(kind, sa.types._Binary):  # noqa: SLF001 - the only common base of BYTEA and BLOB
        return f"'\\x' || lower(hex({column}))"
    if isinstance(kind, sa.Boolean):
        return f"CASE {column} WHEN 0 THEN 'f' WHEN 1 THEN 't' END"
    if isinstance(kind, sa.DateTime):
        # No zeros at the end of the seconds' fraction, and the zone.
        fraction = f"CASE WHEN {column} LIKE '%.%' THEN rtrim(rtrim({column}, '0'), '.') ELSE {column} END"
        return f"{fraction} || '+00'"
    return f"CAST({column} AS TEXT)"
