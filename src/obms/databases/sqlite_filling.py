"""Fills the empty tables of a SQLite database from a PostgreSQL dump."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pysqlite3 import dbapi2 as sqlite3

from obms.databases import digests
from obms.databases.copy_blocks import Block, bytes_of, read_blocks, text_of, time_of
from obms.databases.sqlite import Sqlite
from obms.databases.sqlite_errors import failure
from obms.databases.sqlite_snapshot import connect
from obms.errors import BackupDamaged, Refused, StorageFailed

CACHE_KIBIBYTES = 65_536
INDEXES = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
ELSEWHERE = "Restore it on a server that runs on PostgreSQL (DB_TYPE=postgresql). Nothing was changed."

Value = str | bytes | int | None
Convert = Callable[[str], Value]
Columns = Mapping[str, Convert]


def fill_sqlite(target: Sqlite, dump: Path, *, name: str) -> None:
    """Write each row of the dump into the tables of `target`, which have been made and are empty.

    Foreign keys are not looked at here: the checks of the loaded copy do that. What breaks off
    leaves `target` unusable.
    """
    known = _columns(target)
    target.engine.dispose()
    with _load_errors(target.path, name), closing(connect(target.path)) as connection:
        with (
            _bulk(connection),
            _without_indexes(connection),
            closing(read_blocks(dump, name=name)) as blocks,
        ):
            seen = {_fill(connection, block, known, name) for block in blocks}
        if missing := sorted({*known} - seen):
            raise BackupDamaged(name=name, detail=f"it has no rows of {', '.join(missing)}")


def _columns(target: Sqlite) -> dict[str, Columns]:
    with target.engine.connect() as connection:
        inspector = sa.inspect(connection)
        return {
            name: {column["name"]: _converter(column["type"]) for column in inspector.get_columns(name)}
            for name in digests.tables(connection)
        }


def _converter(kind: sa.types.TypeEngine[Any]) -> Convert:
    if isinstance(kind, sa.types._Binary):  # noqa: SLF001 - the only common base of BYTEA and BLOB
        return bytes_of
    if isinstance(kind, sa.Boolean):
        return ("f", "t").index
    return time_of if isinstance(kind, sa.DateTime) else str


@contextmanager
def _bulk(connection: Any) -> Iterator[None]:
    """One transaction, which is lost with the file if it breaks off."""
    connection.execute("PRAGMA journal_mode=MEMORY")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute(f"PRAGMA cache_size=-{CACHE_KIBIBYTES}")
    connection.execute("BEGIN")
    yield
    connection.execute("COMMIT")


@contextmanager
def _without_indexes(connection: Any) -> Iterator[None]:
    """Indexes are made when the rows are there: that is one sort instead of a search for each row."""
    indexes = connection.execute(INDEXES).fetchall()
    for name, _ in indexes:
        connection.execute(f'DROP INDEX "{name}"')
    yield
    for _, statement in indexes:
        connection.execute(statement)


def _fill(connection: Any, block: Block, known: Mapping[str, Columns], name: str) -> str:
    """Write the rows of a block; the name of its table."""
    if block.table == digests.REVISION_TABLE:  # the migrations have written it
        for _ in block.lines:
            continue
        return block.table
    columns = known.get(block.table)
    if columns is None or set(columns) != set(block.columns):
        found = f"{block.table} ({', '.join(block.columns)})"
        raise Refused(detail=f"{name} has a table {found}, and this program does not", hint=ELSEWHERE)
    converters = [columns[column] for column in block.columns]
    names, marks = (", ".join(found) for found in (map(_quote, block.columns), "?" * len(converters)))
    statement = f"INSERT INTO {_quote(block.table)} ({names}) VALUES ({marks})"  # noqa: S608 - quoted
    connection.executemany(statement, _rows(block, converters, name))
    return block.table


def _quote(name: str) -> str:
    return f'"{name}"'


def _rows(block: Block, converters: Sequence[Convert], name: str) -> Iterator[list[Value]]:
    for line in block.lines:
        try:
            yield [
                None if (text := text_of(field)) is None else convert(text)
                for field, convert in zip(line, converters, strict=True)
            ]
        except ValueError as error:
            where = f"{block.table} row {_key(block, line)}, {_column(block, converters, line)}"
            raise Refused(detail=f"{name}: {where}: {error}", hint=ELSEWHERE) from error


def _key(block: Block, line: Sequence[str]) -> str:
    """What names a row: its id, and without one its first field."""
    return dict(zip(block.columns, line, strict=False)).get("id", line[0])


def _column(block: Block, converters: Sequence[Convert], line: Sequence[str]) -> str:
    """The column whose field could not be converted."""
    for column, convert, field in zip(block.columns, converters, line, strict=False):
        try:
            if (text := text_of(field)) is not None:
                convert(text)
        except ValueError:
            return f"column {column}"
    return f"{len(line)} fields for {len(block.columns)} columns"


@contextmanager
def _load_errors(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        found = failure(error, path)
        if isinstance(found, StorageFailed):
            raise found from error
        raise BackupDamaged(name=name, detail=f"SQLite says: {error}") from error
    except UnicodeDecodeError as error:
        raise BackupDamaged(name=name, detail=f"the SQL dump is not UTF-8 text: {error}") from error
