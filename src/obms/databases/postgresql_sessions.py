"""Sessions beside a PostgreSQL database: what is done to it from outside of it."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from threading import Event

import psycopg
import sqlalchemy as sa
from psycopg import sql
from psycopg.rows import TupleRow
from sqlalchemy.exc import DBAPIError

from obms.errors import DatabaseUnreachable, GrantMissing

Session = psycopg.Connection[TupleRow]
OURS = "obms: replaced, also in"
HOLDS_NAME = """
SELECT 1 FROM pg_locks
WHERE pid = %s AND classid = 'pg_database'::regclass AND mode = 'AccessExclusiveLock' AND granted
"""
NOTE = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
# A rename ends what else works in a database, such as autovacuum, by itself.
SESSIONS = """
SELECT pid FROM pg_stat_activity
WHERE datname = ANY(%s) AND backend_type = 'client backend' AND pid NOT IN (pg_backend_pid(), %s)
"""

UNHURRIED = "SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0"
# The server's usual way to compress long values takes more than half of a load, and leaves them larger.
CHEAPER_VALUES = """
SELECT set_config(name, 'lz4', false) FROM pg_settings
WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)
"""
DEADLOCK = "40P01"
# Where a role that may not connect to the first is let in, as a rule.
MAINTENANCE = ("postgres", "template1")
CANCEL_SECONDS = 5.0


def lock_out_writers(fence: sa.Connection, tables: Sequence[str], seconds: float) -> None:
    """Hold every table against writers until the transaction of `fence` ends; readers go on.

    A writer may have taken the same tables in another order, and PostgreSQL then fails one of the
    two: ours gives way and tries again.
    """
    deadline = time.monotonic() + seconds
    names = ", ".join(quoted(name) for name in tables)
    while True:
        try:
            fence.exec_driver_sql(UNHURRIED)
            fence.exec_driver_sql(f"SET LOCAL lock_timeout = '{seconds}s'")
            if names:
                fence.exec_driver_sql(f"LOCK TABLE {names} IN EXCLUSIVE MODE")
        except DBAPIError as error:
            fence.rollback()
            if getattr(error.orig, "sqlstate", None) != DEADLOCK or time.monotonic() > deadline:
                raise
        else:
            return


@contextmanager
def session_beside(
    open_session: Callable[[str], AbstractContextManager[Session]], database: str, *, role: str
) -> Iterator[Session]:
    """A session in another database that lets this role in; GrantMissing where none does."""
    names = [name for name in MAINTENANCE if name != database]
    with ExitStack() as stack:
        for name in names:
            try:
                server = stack.enter_context(open_session(name))
                break
            except DatabaseUnreachable as error:
                # Whatever the language of the server, it names the database where that is the reason.
                if f'"{name}"' not in str(error) or name == role:
                    raise
                refused = error
        else:
            grant = f"GRANT CONNECT ON DATABASE {names[0]} TO {quoted(role)};"
            raise GrantMissing(role=role, what=f"connect to {' or '.join(names)}", grant=grant) from refused
        yield server


@contextmanager
def ending_sessions(
    open_session: Callable[[], AbstractContextManager[Session]], server: Session, names: list[str], keep: int
) -> Iterator[None]:
    """Meanwhile, once `server` holds a database's name, end the sessions in all of them, `keep` last."""
    over = Event()

    def end() -> None:
        with open_session() as other:
            while not over.is_set():
                if other.execute(HOLDS_NAME, (server.info.backend_pid,)).fetchone():
                    for kept in {keep: 0, 0: 0}:
                        for (pid,) in other.execute(SESSIONS, (names, kept)).fetchall():
                            # Without the right to end it the rename fails, and says so.
                            with suppress(psycopg.errors.InsufficientPrivilege):
                                other.execute("SELECT pg_terminate_backend(%s, 4000)", (pid,))
                    return
                over.wait(0.01)

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(end)
        try:
            yield
        finally:
            over.set()
            ended.result()


def cancel(sessions: Iterable[Session]) -> None:
    """End what other threads have these sessions do; one that has ended by itself is none to end.

    Not by their `cancel`, which holds the interpreter up as long as the server does not answer.
    """
    for session in sessions:
        with suppress(psycopg.Error):
            session.cancel_safe(timeout=CANCEL_SECONDS)


def label_database(server: Session, name: str, note: str | None) -> None:
    """Write a note on a database; None takes it away."""
    statement = sql.SQL("COMMENT ON DATABASE {} IS {}")
    server.execute(statement.format(sql.Identifier(name), sql.Literal(note)))


def note(label: str | None) -> str:
    """What tells a database that was replaced, and which safety backup has its content too."""
    return f"{OURS} {label}"


def tell_sessions(server: Session, name: str) -> str:
    """Who is in a database, for the message."""
    found = server.execute("SELECT pid, usename FROM pg_stat_activity WHERE datname = %s", (name,)).fetchall()
    return ", ".join(f"process {pid} of {user}" for pid, user in found) or "it has just ended"


def execute(server: Session, statement: str, *names: str) -> None:
    server.execute(sql.SQL(statement).format(*(sql.Identifier(name) for name in names)))


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
