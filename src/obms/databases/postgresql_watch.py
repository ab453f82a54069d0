"""Watching a PostgreSQL database."""

import asyncio
import json
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import psycopg
from psycopg.pq import ExecStatus, abc

from obms.databases.watching import Row, Unwatched

ANSWER_SECONDS = 2.0
RECONNECT_SECONDS = 1.0


class PostgresqlWatch:
    """In PostgreSQL two snapshots that are written alike see the same: each commit changes the next one.

    One query answers all who wait for it. The session is opened in a thread, and again after a failure.
    """

    slow = True

    def __init__(self, connection: Callable[[], psycopg.Connection[Any]], statement: str) -> None:
        self.connection = connection
        self.statement = statement.format(keys="SELECT json_array_elements_text($1::json)")
        self._session: psycopg.Connection[Any] | None = None
        self._socket = -1  # of the session, which no longer tells it when it is lost
        self._answer: asyncio.Future[list[Row]] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._tried_at = -RECONNECT_SECONDS
        self._opened = 0

    async def look(self) -> Hashable:
        rows = await self._ask(b"look", [])
        return self._opened, rows[0]

    async def rows(self, keys: Sequence[str]) -> list[Row]:
        return await self._ask(b"rows", [json.dumps(keys).encode()])

    def _open(self) -> None:
        """Begin to connect, unless that is under way or was tried just now."""
        now = time.monotonic()
        if self._opening is None and now - self._tried_at >= RECONNECT_SECONDS:
            self._tried_at = now
            self._opening = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            session = await asyncio.to_thread(self._prepare)
        except psycopg.Error:
            return  # the requests find out by themselves, and say so
        finally:
            self._opening = None
        self._session = session
        self._opened += 1
        self._socket = session.pgconn.socket
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _prepare(self) -> psycopg.Connection[Any]:
        session = self.connection()
        session.execute("SET datestyle = 'ISO'; SET timezone = 'UTC'")
        # Not of another server either, should one stand behind the same address some day.
        look = "SELECT pg_current_snapshot()::text, pg_postmaster_start_time()::text, pg_backend_pid()::text"
        for name, statement in ((b"look", look), (b"rows", self.statement)):
            if session.pgconn.prepare(name, statement.encode()).status != ExecStatus.COMMAND_OK:
                session.close()
                raise psycopg.OperationalError(f"the statement {name!r} cannot be prepared")
        session.pgconn.nonblocking = 1
        return session

    async def _ask(self, name: bytes, values: list[bytes]) -> list[Row]:
        """The rows of a prepared statement. One asks at a time."""
        if self._session is None:
            self._open()
            raise Unwatched
        answer = self._answer = asyncio.get_running_loop().create_future()
        try:
            self._session.pgconn.send_query_prepared(name, values)
            async with asyncio.timeout(ANSWER_SECONDS):
                # So little does not wait to be sent, unless nobody reads it: then the time is over soon.
                self._session.pgconn.flush()
                rows: list[Row] = await answer
        except (psycopg.Error, TimeoutError, Unwatched) as error:
            raise Unwatched from error
        finally:
            self._answer = None
            # An answer that comes too late must not be taken for that of the next question.
            if not answer.done() or answer.cancelled() or answer.exception():
                self.close()
        return rows

    def _read(self) -> None:
        assert self._session is not None
        pgconn = self._session.pgconn
        try:
            pgconn.consume_input()
            while self._answer is not None and not self._answer.done() and not pgconn.is_busy():
                self._take(pgconn, self._answer)
        except psycopg.Error:
            self.close()

    @staticmethod
    def _take(pgconn: "abc.PGconn", answer: "asyncio.Future[list[Row]]") -> None:
        result = pgconn.get_result()
        if result is None or result.status != ExecStatus.TUPLES_OK:
            raise psycopg.OperationalError("the statement failed")
        rows = [
            tuple(_text(result.get_value(row, column)) for column in range(result.nfields))
            for row in range(result.ntuples)
        ]
        pgconn.get_result()  # the end of this answer
        answer.set_result(rows)

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            session.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Unwatched)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
