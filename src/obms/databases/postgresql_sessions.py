"""Sessions beside a PostgreSQL database: what is done to it from outside of it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from threading import Event

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

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
