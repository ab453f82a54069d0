"""A quick look whether what a database keeps is whole: in bounded time, which may be too short for all."""

from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

import sqlalchemy as sa

# Steps of SQLite's machine between two looks at the clock: well under a millisecond.
STEPS = 1000
CHECKSUMS = "SELECT checksum_failures FROM pg_stat_database WHERE datname = current_database()"
UNFIT_INDEXES = "SELECT CAST(CAST(indexrelid AS regclass) AS text) FROM pg_index WHERE NOT indisvalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wholeness:
    """What was found; `detail` says how much was looked at."""

    problems: tuple[str, ...]
    detail: str


def quick_check(connection: sa.Connection, limit: timedelta) -> Wholeness:
    """Look at it for so long at most; a database that cannot be asked raises SQLAlchemy's error."""
    if connection.dialect.name == "sqlite":
        return _of_sqlite(connection, limit)
    return _of_postgresql(connection, limit)


def _of_sqlite(connection: sa.Connection, limit: timedelta) -> Wholeness:
    """Every page, as far as the time goes: `quick_check` is the integrity check without the indexes."""
    raw, end = connection.connection.dbapi_connection, monotonic() + limit.total_seconds()
    assert raw is not None
    raw.set_progress_handler(lambda: monotonic() > end, STEPS)
    try:
        found = connection.exec_driver_sql("PRAGMA quick_check(3)").scalars().all()
    except sa.exc.OperationalError as error:
        if "interrupted" not in str(error.orig):
            raise
        return Wholeness(problems=(), detail=f"nothing found in {limit.total_seconds():g} s; not to the end")
    except sa.exc.DatabaseError as error:
        return Wholeness(problems=(str(error.orig),), detail="")
    finally:
        raw.set_progress_handler(None, STEPS)
    return Wholeness(problems=tuple(one for one in found if one != "ok"), detail="every page is whole")


def _of_postgresql(connection: sa.Connection, limit: timedelta) -> Wholeness:
    """What the server itself has noticed: pages with a wrong checksum, and indexes that are not fit."""
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(limit.total_seconds() * 1000)}")
    failures = connection.exec_driver_sql(CHECKSUMS).scalar()
    indexes = connection.exec_driver_sql(UNFIT_INDEXES).scalars().all()
    problems = [f"the index {name} is not fit" for name in indexes]
    problems += [f"{failures} pages with a wrong checksum"] if failures else []
    told = "no page with a wrong checksum" if failures is not None else "its pages have no checksums"
    return Wholeness(problems=tuple(problems), detail=f"{told}; every index is fit")
