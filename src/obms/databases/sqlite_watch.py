"""Watching a SQLite database."""

import json
import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2 as sqlite3

from obms.databases.sqlite_snapshot import connect
from obms.databases.watching import Row, Unwatched


class SqliteWatch:
    """SQLite counts the commits of others in memory that all of its processes share (`data_version`).

    `statement` has `{keys}` where the keys are to stand.
    """

    slow = False

    def __init__(self, path: Path, statement: str) -> None:
        self.path = path
        self._name = str(path)
        self.statement = statement.format(keys="SELECT value FROM json_each(?)")
        self._connection: Any = None
        self._file: tuple[int, int] | None = None
        self._opened = 0

    async def look(self) -> Hashable:
        try:
            written_at = self._require_file()
            version = self._connection.execute("PRAGMA data_version").fetchall()[0][0]
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise Unwatched from error
        return self._opened, written_at, version

    async def rows(self, keys: Sequence[str]) -> list[Row]:
        try:
            self._require_file()
            return list(self._connection.execute(self.statement, (json.dumps(keys),)).fetchall())
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise Unwatched from error

    def _require_file(self) -> int:
        """Have the file open that is there now; when it was written.

        One that was put in place of another, or written over by hand, is another database.
        """
        found = os.stat(self._name)  # noqa: PTH116 - at each look, and a Path takes twice as long
        if self._file != (found.st_dev, found.st_ino):
            self._open((found.st_dev, found.st_ino))
        return found.st_mtime_ns

    def _open(self, file: tuple[int, int]) -> None:
        self.close()
        self._connection = connect(self.path)
        self._connection.execute("PRAGMA busy_timeout=0")  # the event loop must not wait for anybody
        self._connection.execute("PRAGMA query_only=ON")
        self._file = file
        self._opened += 1

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._file = None, None
