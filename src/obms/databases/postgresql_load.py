"""Loading a plain SQL dump of PostgreSQL: what is around the rows by psql, the rows over two sessions."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

import psycopg
from psycopg import sql

from obms.databases import Chunks
from obms.databases.copy_blocks import BLOCK_END, HEAD, SCHEMA, bare_name, column_names
from obms.databases.postgresql_dump import ROWS_BEGIN, ROWS_END, read_dump, restricted, without_timeout
from obms.databases.postgresql_errors import block_failed, load_failed
from obms.databases.postgresql_sessions import CHEAPER_VALUES, Session, cancel
from obms.databases.processes import CHUNK, write_to

SESSIONS = 2
# In one transaction, and its errors told with their SQLSTATE, whatever the language of the server.
QUIETLY = ("-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-f", "-")
# Whoever kills the server kills the scratch database too; indexes are built faster with some memory.
FASTER = "-c synchronous_commit=off -c maintenance_work_mem=128MB"
UNHURRIED = "SET synchronous_commit = off; SET statement_timeout = 0; SET client_encoding = 'UTF8'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The lines of one COPY block, by their place in the file."""

    statement: sql.Composed
    start: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How a dump gets into an empty database: by which psql, and by which sessions."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    open_session: Callable[[], AbstractContextManager[Session]]
    knows_timeout: bool

    def load(self, image: Path) -> None:
        """Load it; BackupDamaged for what the dump is to blame for."""
        dump = read_dump(image)  # looks for the end before it gives the beginning
        first = next(dump)
        if ROWS_BEGIN not in first:
            self._run(_again(first, dump))
            return
        with image.open("rb") as file:
            self._run(iter([file.read(first.index(ROWS_BEGIN))]))
            self._load_rows(image, _parts(file, file.tell()))
            self._run(iter(partial(file.read, CHUNK), b""))

    def _run(self, dump: Chunks) -> None:
        write_to(
            (*self.command, *QUIETLY),
            restricted(dump if self.knows_timeout else without_timeout(dump)),
            env={**self.environment, "PGOPTIONS": FASTER},
            error=load_failed,
        )

    def _load_rows(self, image: Path, parts: Iterator[Part]) -> None:
        with ExitStack() as stack:
            sessions = [stack.enter_context(self.open_session()) for _ in range(SESSIONS)]
            free: SimpleQueue[Session] = SimpleQueue()
            for session in sessions:
                session.execute(UNHURRIED)
                session.execute(CHEAPER_VALUES)
                free.put(session)
            pool = stack.enter_context(ThreadPoolExecutor(SESSIONS))
            try:
                for loaded in [pool.submit(_copy, free, image, part) for part in parts]:
                    loaded.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                cancel(sessions)
                raise


def _again(first: bytes, rest: Chunks) -> Chunks:
    yield first
    yield from rest


def _parts(file: BinaryIO, place: int) -> Iterator[Part]:
    """The blocks that follow, up to the end of the rows; what it is not the head of one is none."""
    statement, start = None, 0
    for line in file:
        place += len(line)
        if statement is None:
            if line == ROWS_END:
                return
            statement, start = _statement(line), place
        elif line == BLOCK_END:
            yield Part(statement=statement, start=start, size=place - len(line) - start)
            statement = None


def _statement(line: bytes) -> sql.Composed | None:
    """COPY for the block that begins with this line, None for another line; made of nothing but names."""
    match = HEAD.fullmatch(line.decode().rstrip("\n"))
    if match is None:
        return None
    return sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier("public", bare_name(match["table"].removeprefix(SCHEMA))),
        sql.SQL(", ").join(map(sql.Identifier, column_names(match["columns"]))),
    )


def _copy(free: SimpleQueue[Session], image: Path, part: Part) -> None:
    session = free.get()
    try:
        with image.open("rb") as file, session.cursor().copy(part.statement) as rows:
            file.seek(part.start)
            left = part.size
            while chunk := file.read(min(CHUNK, left)):
                left -= len(chunk)
                rows.write(chunk)
    except psycopg.Error as error:
        raise block_failed(image.name, error) from error
    finally:
        free.put(session)
