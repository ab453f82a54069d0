"""What a PostgreSQL database holds, and whether that has changed since a moment."""

from dataclasses import dataclass

import sqlalchemy as sa

from obms.databases import Facts, digests
from obms.databases.postgresql_copy import Rows, driver_session, whole_tables
from obms.databases.postgresql_sessions import Session, quoted

# Whatever is committed from now on has this number or a higher one, be it under way already.
FIRST_OF_LATER = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"
# What is newer has the lesser age.
ROWS = "SELECT count(*), count(*) FILTER (WHERE age(xmin) <= age(CAST(:first AS xid))) FROM {}"
PROBLEMS = """
SELECT 'constraint ' || conname || ' of ' || conrelid::regclass || ' is not valid'
FROM pg_constraint WHERE NOT convalidated
UNION ALL
SELECT 'index ' || indexrelid::regclass || ' is not valid' FROM pg_index WHERE NOT indisvalid
"""


# Those of the system have what the template knew of them.
OWN_TABLES = """
SELECT quote_ident(schemaname) || '.' || quote_ident(relname) FROM pg_stat_user_tables ORDER BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The first transaction that is later, and how many rows there are in each table."""

    first_of_later: str
    rows: dict[str, int]


def digest(connection: sa.Connection, second: Session) -> Facts:
    """Rows and digests of all tables, read over both sessions."""
    rows = Rows(
        sessions=(driver_session(connection), second),
        blocks=whole_tables(connection, digests.tables(connection)),
    )
    rows.add_up()
    return rows.facts(digests.revision(connection))


def problems(connection: sa.Connection) -> tuple[str, ...]:
    """What is marked as not valid; the server has checked the rest as it was loaded."""
    return tuple(connection.exec_driver_sql(PROBLEMS).scalars())


def analyze(engine: sa.Engine) -> None:
    """Have the planner know what was loaded."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if tables := connection.exec_driver_sql(OWN_TABLES).scalars().all():
            connection.exec_driver_sql(f"ANALYZE {', '.join(tables)}".replace("%", "%%"))


def moment(connection: sa.Connection) -> Moment:
    """What to compare with later; reads each table once, without its long values."""
    first = str(connection.exec_driver_sql(FIRST_OF_LATER).scalar_one())
    low = str(int(first) % 2**32)
    return Moment(first_of_later=low, rows=digests.count(connection, digests.tables(connection)))


def has_changed(connection: sa.Connection, since: Moment) -> bool:
    """Whether a row was added, changed or deleted by a transaction that was not over at that moment."""
    if digests.tables(connection) != sorted(since.rows):
        return True
    for table, before in since.rows.items():
        query = sa.text(ROWS.format(quoted(table)))
        rows, newer = connection.execute(query, {"first": since.first_of_later}).one()
        if newer or rows != before:
            return True
    return False
