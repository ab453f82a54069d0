"""The rows of PostgreSQL's tables, as COPY writes them, read over sessions that see one moment."""

import hashlib
import select
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import cycle
from queue import SimpleQueue
from threading import Semaphore

import psycopg
import sqlalchemy as sa
from psycopg import sql
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from obms.databases import Chunks, Facts, digests
from obms.databases.postgresql_sessions import UNHURRIED, Session, cancel, quoted

FRAME = 1 << 20
FRAMES_AHEAD = 8  # of each session: more than a block, so that both work while one block is written
BLOCK_BYTES = 4 << 20
END = b"\\.\n\n"
# Pages of the table itself, and bytes with what is kept beside it.
EXTENT = """
SELECT pg_relation_size(%(table)s::regclass) / current_setting('block_size')::int,
       pg_table_size(%(table)s::regclass)
"""
Give = Callable[[bytes | None], object]
Found = tuple[str, int, int]  # a table, so many rows of it, and their sum


class _AbandonedError(Exception):
    """Nobody wants the rows any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The rows of a table in its pages from `first` up to `end`, None for all that follow."""

    schema: str
    table: str
    columns: tuple[str, ...]
    first: int = 0
    end: int | None = None

    @property
    def name(self) -> str:
        return f"{self.schema}.{quoted(self.table)}"

    @property
    def head(self) -> bytes:
        names = ", ".join(quoted(name) for name in self.columns)
        return f"COPY {self.name} ({names}) FROM stdin;\n".encode()

    @property
    def query(self) -> sql.Composed:
        until = sql.SQL("") if self.end is None else sql.SQL(" AND ctid < {}").format(f"({self.end},0)")
        return sql.SQL("COPY (SELECT {} FROM ONLY {} WHERE ctid >= {}{}) TO STDOUT").format(
            sql.SQL(", ").join(map(sql.Identifier, self.columns)),
            sql.Identifier(self.schema, self.table),
            f"({self.first},0)",
            until,
        )


def whole_tables(connection: sa.Connection, names: Sequence[str]) -> list[Block]:
    """Each of these tables as one block; waits for nobody's lock."""
    inspector = sa.inspect(connection)
    schema = inspector.default_schema_name or "public"
    found = inspector.get_multi_columns(filter_names=names)
    columns = {name: tuple(sorted(each["name"] for each in columns)) for (_, name), columns in found.items()}
    return [Block(schema=schema, table=name, columns=columns[name]) for name in names]


def cut(session: Session, block: Block) -> list[Block]:
    """The blocks of a few megabytes that this one consists of."""
    pages, size = session.execute(EXTENT, {"table": block.name}).fetchone() or (0, 0)
    step = max(1, pages * BLOCK_BYTES // max(1, size))
    starts = range(0, pages, step) or (0,)
    ends = [*starts[1:], None]
    return [replace(block, first=first, end=end) for first, end in zip(starts, ends, strict=True)]


class _Lane:
    """What one session has read, a bounded amount ahead of what is taken; None ends a block."""

    def __init__(self) -> None:
        self._slots = Semaphore(FRAMES_AHEAD)
        self._items: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._abandoned = False

    def give(self, frame: bytes | None) -> None:
        self._slots.acquire()
        if self._abandoned:
            raise _AbandonedError
        self._items.put(frame)

    def fail(self, error: BaseException) -> None:
        self._items.put(error)

    def take(self) -> bytes | None:
        item = self._items.get()
        self._slots.release()
        if isinstance(item, BaseException):
            raise item
        return item

    def abandon(self) -> None:
        self._abandoned = True
        self._slots.release()


@dataclass(slots=True, kw_only=True)
class Rows:
    """The rows of these blocks; how many, and the digests, are known when all were read."""

    sessions: Sequence[Session]
    blocks: Sequence[Block]
    counts: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)
    lanes: list[_Lane] = field(default_factory=list)

    def facts(self, revision: str | None) -> Facts:
        names = sorted({block.table for block in self.blocks})
        return Facts(
            revision=revision,
            rows={name: self.counts[name] for name in names},
            digests={name: digests.spell(self.sums[name]) for name in names},
        )

    def lock(self) -> None:
        """Cut the tables into blocks; none of them is changed or dropped while the transaction lasts."""
        session = self.sessions[0]
        if names := ", ".join(sorted({block.name for block in self.blocks})):
            session.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE".encode())
        self.blocks = [part for block in self.blocks for part in cut(session, block)]

    def add_up(self) -> None:
        """Read them all for their digests alone; DatabaseError of SQLAlchemy when that fails."""
        try:
            self.lock()
            with ThreadPoolExecutor(len(self.sessions)) as pool:
                for found in pool.map(_read_share, self.sessions, self._shares()):
                    self._count(found)
        except psycopg.Error as error:
            lost = any(session.broken for session in self.sessions)
            raise sa.exc.DatabaseError("COPY", None, error, connection_invalidated=lost) from error

    def chunks(self) -> Chunks:
        """Each block as a dump has it, in their order, while the sessions read ahead; psycopg.Error."""
        self.lanes = [_Lane() for _ in self.sessions]
        with ThreadPoolExecutor(len(self.lanes)) as pool:
            shares = zip(self.lanes, self.sessions, self._shares(), strict=True)
            reading = [pool.submit(_fill, *share) for share in shares]
            try:
                for block, lane in zip(self.blocks, cycle(self.lanes), strict=False):
                    yield block.head
                    while frame := lane.take():
                        yield frame
                    yield END
            except BaseException:
                self.give_up()
                raise
            for work in reading:
                self._count(work.result())

    def give_up(self) -> None:
        """Have the sessions end what they do, so that they can be closed: nobody wants the rows any more."""
        for lane in self.lanes:
            lane.abandon()
        if self.lanes:
            cancel(self.sessions)

    def _shares(self) -> list[Sequence[Block]]:
        return [self.blocks[number :: len(self.sessions)] for number in range(len(self.sessions))]

    def _count(self, found: Sequence[Found]) -> None:
        for table, rows, total in found:
            self.counts[table] += rows
            self.sums[table] += total


def _fill(lane: _Lane, session: Session, share: Sequence[Block]) -> list[Found]:
    try:
        return _read_share(session, share, lane.give)
    except BaseException as error:
        lane.fail(error)
        raise


def _read_share(session: Session, share: Sequence[Block], give: Give | None = None) -> list[Found]:
    return [(block.table, *read(session, block, give)) for block in share]


def read(session: Session, block: Block, give: Give | None) -> tuple[int, int]:
    """How many lines a block has, and their sum; `give` gets them, a megabyte at a time, and then None."""
    sha256, from_bytes, digest_size = hashlib.sha256, int.from_bytes, digests.BYTES
    rows = total = size = 0
    frame = bytearray(FRAME)  # filled again and again: what grows anew each time is scattered in memory
    with closing(_lines(session, block.query)) as lines:
        for line in lines:
            total += from_bytes(sha256(line).digest()[:digest_size])
            rows += 1
            if give is None:
                continue
            end = size + len(line)
            frame[size:end] = line
            size = end
            if size >= FRAME:
                give(bytes(memoryview(frame)[:size]))
                size = 0
    if give is not None:
        if size:
            give(bytes(memoryview(frame)[:size]))
        give(None)
    return rows, total


def _lines(session: Session, query: sql.Composed) -> Generator[memoryview]:
    """The lines of a COPY as they come; psycopg.Error. The driver's own cursor takes half as long again."""
    server = session.pgconn
    _require(server.exec_(query.as_bytes(session)), ExecStatus.COPY_OUT)
    try:
        yield from _until_end(server)
    except GeneratorExit:
        cancel([session])
        with suppress(psycopg.Error):  # read to its end, so that the session can be closed
            for _ in _until_end(server):
                continue
            _results(server)
        raise
    for result in _results(server):
        _require(result, ExecStatus.COMMAND_OK)


def _results(server: PGconn) -> list[PGresult]:
    """All of them, so that the session can be asked again."""
    return list(iter(server.get_result, None))


def _until_end(server: PGconn) -> Iterator[memoryview]:
    arrived = select.poll()
    arrived.register(server.socket, select.POLLIN)
    while True:
        size, line = server.get_copy_data(1)
        if size > 0:
            yield line
        elif size == 0:
            arrived.poll()
            server.consume_input()
        else:
            return


def _require(result: PGresult, wanted: ExecStatus) -> None:
    if result.status != wanted:
        raise error_from_result(result)


def driver_session(connection: sa.Connection) -> Session:
    """The session beneath a connection that is in a transaction, printing values in the canonical form."""
    connection.exec_driver_sql(digests.PRINTING)
    session: Session = connection.connection.driver_connection  # type: ignore[assignment]
    return session


def follow(session: Session, exported: str) -> Session:
    """The session, in a transaction that sees the moment of the exported snapshot."""
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    session.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(exported))
    session.execute(f"{UNHURRIED}; {digests.PRINTING}")
    return session
