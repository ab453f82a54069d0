"""Fills the empty tables of a PostgreSQL database from a SQLite one."""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql
from pysqlite3 import dbapi2 as sqlite3
from sqlalchemy.exc import DBAPIError

from obms.databases import digests
from obms.databases.postgresql import Postgresql
from obms.databases.postgresql_errors import unreachable
from obms.databases.postgresql_facts import analyze
from obms.databases.postgresql_sessions import CHEAPER_VALUES, UNHURRIED
from obms.databases.sqlite import Sqlite
from obms.databases.sqlite_snapshot import TABLES, connect
from obms.errors import BackupDamaged, ObmsError, Refused

CHUNK = 1 << 20
FASTER = "SET LOCAL synchronous_commit = off; SET LOCAL maintenance_work_mem = '128MB'"
# Foreign keys go first and come last: they stand on the keys of other tables.
CONSTRAINTS = """
SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = current_schema()::regnamespace AND contype IN ('f', 'p', 'u')
ORDER BY contype = 'f' DESC, conname
"""
INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid
WHERE relnamespace = current_schema()::regnamespace
"""
WHERE_IT_FAILED = re.compile(r"COPY \S+, line (\d+)(?:, column ([^:\n]+))?")
NOT_HELD, CONTRADICTS = "22", "23"  # classes of SQLSTATE
HERE = "Restore it on a server that runs on SQLite (DB_TYPE=sqlite), mend the row there. Nothing was changed."


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """How the rows of a table are read from SQLite as the lines of a COPY."""

    table: str
    columns: tuple[str, ...]
    texts: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def select(self) -> str:
        line = " || char(9) || ".join(f"coalesce({text}, '\\N')" for text in self.texts)
        return f"SELECT CAST({line} || char(10) AS BLOB) FROM {_quote(self.table)} ORDER BY rowid"  # noqa: S608


def fill_postgresql(target: Postgresql, source: Sqlite, *, name: str) -> None:
    """Write each row of `source` into the tables of `target`, which have been made and are empty.

    All or nothing. Refused, with table, row and column, for what PostgreSQL cannot hold.
    """
    with _load_errors(name), closing(connect(source.path)) as reader:
        with target.engine.begin() as connection:
            connection.exec_driver_sql(UNHURRIED)
            connection.exec_driver_sql(FASTER)
            connection.exec_driver_sql(CHEAPER_VALUES)
            tables = _tables(connection)
            _require_same_tables(reader, tables, name)
            with _without_constraints(connection):
                for rows in tables:
                    _copy(connection, reader, rows, name)
            _advance_identities(connection)
        analyze(target.engine)


def _tables(connection: sa.Connection) -> list[Rows]:
    inspector = sa.inspect(connection)
    found = []
    for name in digests.tables(connection):
        columns = inspector.get_columns(name)
        found.append(
            Rows(
                table=name,
                columns=tuple(column["name"] for column in columns),
                texts=tuple(_text(_quote(column["name"]), column["type"]) for column in columns),
                key=tuple(inspector.get_pk_constraint(name)["constrained_columns"]),
            )
        )
    return found


def _text(column: str, kind: sa.types.TypeEngine[Any]) -> str:
    """The SQL that makes SQLite give a column as a field of COPY's text format."""
    if isinstance(kind, sa.types._Binary):  # noqa: SLF001 - the only common base of BYTEA and BLOB
        return f"CASE WHEN {column} IS NOT NULL THEN '\\\\x' || hex({column}) END"
    if isinstance(kind, sa.DateTime):
        return f"{column} || '+00'"
    if isinstance(kind, sa.Boolean | sa.Integer):
        return column
    # The backslash first: the others bring one in.
    for character, escaped in ((92, "\\\\"), (9, "\\t"), (10, "\\n"), (13, "\\r")):
        column = f"replace({column}, char({character}), '{escaped}')"
    return column


def _require_same_tables(reader: Any, tables: Sequence[Rows], name: str) -> None:
    """Refused for what would be left behind, BackupDamaged for what is missing."""
    found = {
        (table, column)
        for (table,) in reader.execute(TABLES).fetchall()
        for _, column, *_ in reader.execute(f"PRAGMA table_info({_quote(table)})")
        if table != digests.REVISION_TABLE
    }
    wanted = {(rows.table, column) for rows in tables for column in rows.columns}
    if more := _tell(found - wanted):
        raise Refused(detail=f"{name} has {more}, and this program does not", hint=HERE)
    if missing := _tell(wanted - found):
        raise BackupDamaged(name=name, detail=f"it has no {missing}")


def _tell(parts: set[tuple[str, str]]) -> str:
    return ", ".join(f"{table}.{column}" for table, column in sorted(parts))


@contextmanager
def _without_constraints(connection: sa.Connection) -> Iterator[None]:
    """Keys and indexes are made when the rows are there, which also checks them all at once."""
    constraints = connection.exec_driver_sql(CONSTRAINTS).all()
    for table, constraint, _ in constraints:
        connection.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
    indexes = connection.exec_driver_sql(INDEXES).all()
    for index, _ in indexes:
        connection.exec_driver_sql(f"DROP INDEX {index}")
    yield
    for _, definition in indexes:
        connection.exec_driver_sql(definition.replace("%", "%%"))
    for table, constraint, definition in reversed(constraints):
        connection.exec_driver_sql(
            f"ALTER TABLE {table} ADD CONSTRAINT {constraint} {definition}".replace("%", "%%")
        )


def _copy(connection: sa.Connection, reader: Any, rows: Rows, name: str) -> None:
    driver: Any = connection.connection.driver_connection
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(rows.table), sql.SQL(", ").join(map(sql.Identifier, rows.columns))
    )
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for chunk in _chunks(reader.execute(rows.select)):
                copy.write(chunk)
    except psycopg.DataError as error:
        raise _not_held(reader, rows, error, name) from error


def _chunks(lines: Iterator[tuple[bytes]]) -> Iterator[bytes]:
    batch: list[bytes] = []
    size = 0
    for (line,) in lines:
        batch.append(line)
        size += len(line)
        if size >= CHUNK:
            yield b"".join(batch)
            batch, size = [], 0
    yield b"".join(batch)


def _not_held(reader: Any, rows: Rows, error: psycopg.Error, name: str) -> ObmsError:
    """The row and the column that PostgreSQL cannot hold, named."""
    said = error.diag.message_primary or str(error)
    place = WHERE_IT_FAILED.search(error.diag.context or "")
    if place is None:
        return Refused(detail=f"{name}: {rows.table}: {said}", hint=HERE)
    names = dict.fromkeys((*rows.key, *rows.columns))
    query = (
        f"SELECT {', '.join(map(_quote, names))} FROM {_quote(rows.table)} ORDER BY rowid LIMIT 1 OFFSET ?"  # noqa: S608
    )
    row = dict(zip(names, reader.execute(query, (int(place[1]) - 1,)).fetchone(), strict=True))
    column = place[2] or next((key for key, value in row.items() if "\0" in str(value)), "unknown")
    key = ", ".join(str(row[part]) for part in rows.key)
    return Refused(detail=f"{name}: {rows.table} row {key}, column {column}: {said}", hint=HERE)


def _advance_identities(connection: sa.Connection) -> None:
    """The next number of each identity column comes after the highest that is there."""
    for table in digests.tables(connection):
        for column in sa.inspect(connection).get_columns(table):
            if column.get("identity") or column.get("autoincrement") is True:
                name = _quote(column["name"])
                connection.execute(
                    sa.text(
                        f"SELECT setval(pg_get_serial_sequence(:table, :column), max({name}))"  # noqa: S608
                        f" FROM {_quote(table)} HAVING max({name}) > 0"
                    ),
                    {"table": _quote(table), "column": column["name"]},
                )


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def _load_errors(name: str) -> Iterator[None]:
    """What SQLite says of the image is damage, and what contradicts a constraint too."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise BackupDamaged(name=name, detail=f"SQLite says: {error}") from error
    except (psycopg.Error, DBAPIError) as error:
        said = getattr(error, "orig", error)
        if str(getattr(said, "sqlstate", None)).startswith((NOT_HELD, CONTRADICTS)):
            raise BackupDamaged(name=name, detail=f"PostgreSQL says: {said}".splitlines()[0]) from error
        raise unreachable(error) from error
