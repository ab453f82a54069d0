"""What ended a statement from outside: a failure that tells nothing of the rows it was about."""

from collections.abc import Iterator
from contextlib import contextmanager

from pysqlite3 import dbapi2 as sqlite3
from sqlalchemy import Engine, ExceptionContext, event
from sqlalchemy.exc import OperationalError

# Classes of SQLSTATE: the connection, want of resources, an operator (a cancel, a shutdown), the system.
NOT_OF_THE_ROWS = ("08", "53", "57", "58")
NOT_OF_THE_FILE = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_FULL,
)
DISK_FULL = "53100"


def is_interruption(error: BaseException | None) -> bool:
    """Whether a session or a statement was ended so, or a session of PostgreSQL could not be begun."""
    said = getattr(error, "orig", None)
    if getattr(error, "connection_invalidated", False):
        return True
    if getattr(said, "sqlite_errorcode", 0) & 0xFF in NOT_OF_THE_FILE:
        return True
    state = getattr(said, "sqlstate", "")
    if state is None:  # it is not the server's word: the connection failed
        return isinstance(error, OperationalError)
    return str(state).startswith(NOT_OF_THE_ROWS)


def is_full(error: BaseException) -> bool:
    """Whether what ended it is a disk without room."""
    said = getattr(error, "orig", error)
    full = getattr(said, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    return full or getattr(said, "sqlstate", None) == DISK_FULL


@contextmanager
def noting_interruptions(engine: Engine) -> Iterator[list[BaseException]]:
    """Those that befall this engine while the block lasts, also where nobody lets them out."""
    seen: list[BaseException] = []

    def look(context: ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        if error is not None and is_interruption(error):
            seen.append(error)

    event.listen(engine, "handle_error", look)
    try:
        yield seen
    finally:
        event.remove(engine, "handle_error", look)
