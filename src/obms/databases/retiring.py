"""Keeping writers out of a database that is being moved, and out of the one that was moved for good."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from obms.databases import MOVED, Database, digests, writing
from obms.databases.postgresql import Postgresql
from obms.databases.postgresql_errors import unreachable
from obms.databases.postgresql_sessions import lock_out_writers, quoted
from obms.errors import DatabaseUnreachable

READ_ONLY = "ALTER DATABASE {} SET default_transaction_read_only = on"
REFUSE = f"""
CREATE TRIGGER IF NOT EXISTS {{name}} BEFORE {{verb}} ON {{table}} BEGIN SELECT RAISE(ABORT, '{MOVED}'); END
"""
OTHERS = """
SELECT pg_terminate_backend(pid, 4000) FROM pg_stat_activity
WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), %s) AND backend_type = 'client backend'
"""


@contextmanager
def fenced(database: Database) -> Iterator[sa.Connection]:
    """Writers wait until the end, readers go on; the connection sees what no writer changes any more."""
    try:
        if isinstance(database, Postgresql):
            with database.engine.connect() as fence:
                lock_out_writers(fence, digests.tables(fence), database.writer_seconds)
                yield fence
        else:
            with writing(database.engine) as fence:
                yield fence
    except DBAPIError as error:
        if isinstance(database, Postgresql):
            raise unreachable(error) from error
        raise DatabaseUnreachable(detail=f"{error.orig}") from error


def retire(database: Database, fence: sa.Connection) -> None:
    """Have every writer refused from now on, also the one that waits at the fence; readers go on.

    In SQLite a trigger refuses them; in PostgreSQL the database is read-only for each new session, and
    the sessions that are open are ended. A restore over the database makes it writable again. Done
    twice it is done once.
    """
    if isinstance(database, Postgresql):
        keep = fence.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        # Not by the fence: the setting must be seen by others before the last of them is ended.
        with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as server:
            # It may be read-only already: a second time must not fail.
            server.exec_driver_sql("SET default_transaction_read_only = off")
            server.exec_driver_sql(READ_ONLY.format(quoted(database.name)))
            server.exec_driver_sql(OTHERS, (keep,))
        return
    for table in digests.tables(fence):
        for verb in ("INSERT", "UPDATE", "DELETE"):
            name, found = quoted(f"moved_{table}_{verb.lower()}"), quoted(table)
            fence.exec_driver_sql(REFUSE.format(name=name, verb=verb, table=found))
