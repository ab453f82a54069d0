"""The complaints of SQLite, as errors of this program."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pysqlite3 import dbapi2 as sqlite3
from sqlalchemy.exc import DBAPIError

from obms.errors import (
    BackupDamaged,
    BackupFailed,
    DatabaseDamaged,
    DatabaseMissing,
    DatabaseUnreachable,
    ObmsError,
    StorageFailed,
)

DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)
NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
SHORT_READ = sqlite3.SQLITE_IOERR | 2 << 8  # of a file that ends too early


def code(error: Exception) -> int:
    """SQLite's primary result code."""
    return int(getattr(getattr(error, "orig", error), "sqlite_errorcode", 0)) & 0xFF


def lacks_a_table(error: Exception) -> bool:
    """Whether what was asked for is not there; of two databases only the live one can lack it."""
    return code(error) == sqlite3.SQLITE_ERROR and "no such " in str(error)


def failure(error: Exception, path: Path) -> ObmsError:
    """A complaint of SQLite that is not about what a database holds."""
    said = getattr(error, "orig", error)
    short = getattr(said, "sqlite_errorcode", 0) == SHORT_READ
    if code(error) in NO_ROOM and not short:
        return StorageFailed(detail=f"{path}: {said}")
    if not path.exists():
        return DatabaseMissing(name=path)
    if code(error) in DAMAGE:
        return DatabaseDamaged(name=path, detail=said)
    return DatabaseUnreachable(detail=f"{path}: {said}")


@contextmanager
def image_errors(path: Path) -> Iterator[None]:
    """SQLite's complaints about an image, as BackupDamaged."""
    try:
        yield
    except (sqlite3.DatabaseError, DBAPIError) as error:
        found = failure(error, path)
        if isinstance(found, StorageFailed):
            raise found from error
        raise BackupDamaged(name=path.name, detail=f"SQLite says: {error}") from error


@contextmanager
def live_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise failure(error, path) from error
    except sqlite3.DatabaseError as error:
        raise BackupFailed(
            detail=f"{path} is damaged: {error}",
            hint="Nothing was published. `obms restore latest` brings the newest proven backup back.",
        ) from error
