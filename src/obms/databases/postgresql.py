"""PostgreSQL as a Database: the image is plain SQL, and a restore is a rename."""

import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from obms.databases import Carry, Database, Facts, Label, digests, no_label
from obms.databases.contents import dropped_if_empty
from obms.databases.digests import read_facts
from obms.databases.postgresql_copy import Rows, driver_session, follow, whole_tables
from obms.databases.postgresql_dump import KNOWS_TIMEOUT, PostgresqlSnapshot
from obms.databases.postgresql_errors import is_missing, unreachable
from obms.databases.postgresql_facts import analyze, digest, has_changed, moment, problems
from obms.databases.postgresql_load import Loading
from obms.databases.postgresql_sessions import (
    NOTE,
    OURS,
    UNHURRIED,
    Session,
    ending_sessions,
    execute,
    label_database,
    lock_out_writers,
    note,
    quoted,
    session_beside,
    tell_sessions,
)
from obms.databases.postgresql_tools import Tools, find_tools
from obms.databases.postgresql_watch import PostgresqlWatch
from obms.databases.watching import Watch
from obms.errors import DatabaseMissing, DatabaseUnreachable, GrantMissing, Refused

CONNECT_SECONDS = 10
WRITER_SECONDS = 20
# data or index corrupted, input/output error, no such table or column
DAMAGE = ("XX001", "XX002", "58030", "42P01", "42703")
LONGEST_NAME = 36  # bytes, so that what is added still fits
PASSED_ON = ("sslmode", "sslrootcert", "sslcert", "sslkey", "passfile", "options")


class Postgresql:
    """The database at `url`; `bin_dir` overrides where pg_dump and psql are looked for."""

    kind = "postgresql"
    folder = None

    def __init__(self, url: URL, *, bin_dir: Path | None = None, pooled: bool = False) -> None:
        if not url.database:
            raise ValueError("the URL names no database")
        self.url = url
        self.name: str = url.database
        self.bin_dir = bin_dir
        self.writer_seconds = WRITER_SECONDS
        self.engine = sa.create_engine(
            url,
            poolclass=sa.QueuePool if pooled else sa.NullPool,
            pool_pre_ping=True,
            connect_args={"connect_timeout": CONNECT_SECONDS, "client_encoding": "UTF8"},
            json_serializer=digests.canonical_json,
            hide_parameters=True,  # names and keys of people stand in statements, and errors in logs
        )

    def create(self) -> None:
        """An empty database, where there is none."""
        if self._present():
            return
        with self._maintenance() as server:
            execute(server, "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", self.name)

    def exists(self) -> bool:
        try:
            with self.engine.connect() as connection:
                return digests.revision(connection) is not None
        except DBAPIError as error:
            if is_missing(error):
                return False
            raise unreachable(error) from error

    @contextmanager
    def snapshot(self) -> Generator[PostgresqlSnapshot]:
        with self._moment() as (connection, exported), self._session(self.name) as second:
            major = _major(connection)
            tools = find_tools(self.bin_dir, at_least=major)
            names = digests.tables(connection)
            rows = Rows(
                sessions=(driver_session(connection), follow(second, exported)),
                blocks=whole_tables(connection, names),
            )
            try:
                yield PostgresqlSnapshot(
                    command=(
                        *tools.command("pg_dump", self.name),
                        f"--snapshot={exported}",
                        "--no-owner",
                        "--no-privileges",
                        "--encoding=UTF8",
                    ),
                    environment=self._environment(),
                    rows=rows,
                    revision=digests.revision(connection),
                    server_version=_version(connection),
                    server_major=major,
                    tools={"pg_dump": tools.version},
                )
            except BaseException:
                rows.give_up()
                connection.invalidate()  # to end its transaction may fail too, and hide why
                raise

    @contextmanager
    def _moment(self) -> Iterator[tuple[sa.Connection, str]]:
        try:
            with (
                self.engine.connect().execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                ) as connection,
                connection.begin(),
            ):
                connection.exec_driver_sql(UNHURRIED)
                yield connection, connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()
        except DBAPIError as error:
            if is_missing(error):
                raise DatabaseMissing(name=self.name) from error
            raise unreachable(error) from error

    @contextmanager
    def scratch(self) -> Iterator["Postgresql"]:
        self.check_rights()
        copy = self._sibling(self._beside("scratch", _token()))
        copy.create()
        try:
            # A session that stays tells the sweep of another run that this database is in use.
            with copy._session(copy.name):  # noqa: SLF001 - its own class
                yield copy
        finally:
            copy.engine.dispose()
            self._drop(copy.name)

    def _beside(self, *words: str) -> str:
        """A name for a database beside this one, within 63 bytes, and like that of no other one."""
        name = self.name.encode()
        if len(name) > LONGEST_NAME:
            name = name[: LONGEST_NAME - 9] + b"_" + sha256(name).hexdigest()[:8].encode()
        return "_".join((name.decode(errors="ignore"), *words))

    def _sibling(self, name: str) -> "Postgresql":
        return Postgresql(self.url.set(database=name), bin_dir=self.bin_dir, pooled=True)

    def _drop(self, name: str) -> None:
        with self._maintenance() as server:
            execute(server, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def check_tools(self) -> tuple[Tools, int]:
        with self._maintenance() as server:
            major = server.info.server_version // 10000
        return find_tools(self.bin_dir, at_least=major), major

    def load(self, image: Path) -> None:
        tools, major = self.check_tools()
        loading = Loading(
            command=tools.command("psql", self.name),
            environment=self._environment(),
            open_session=lambda: self._session(self.name),
            knows_timeout=major >= KNOWS_TIMEOUT,
        )
        loading.load(image)
        analyze(self.engine)

    def loads_alike(self, server_version: str) -> bool:
        _, major = self.check_tools()
        return server_version.split(".", maxsplit=1)[0] == str(major)

    def size(self) -> int:
        with self._moment() as (connection, _):
            return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())

    def facts(self, *, digests: bool = True) -> Facts:
        with self._moment() as (connection, exported):
            if not digests:
                return read_facts(connection, deep=False)
            with self._session(self.name) as second:
                return digest(connection, follow(second, exported))

    def problems(self) -> tuple[str, ...]:
        with self._moment() as (connection, _):
            return problems(connection)

    def replace(
        self, scratch: Database, carry: Carry, *, label: Label = no_label, whole: bool = False
    ) -> str | None:
        assert isinstance(scratch, Postgresql)
        aside = self._beside("set_aside", f"{datetime.now(UTC):%Y%m%d%H%M%S}") if self._present() else None
        if self.exists():
            try:
                self._replace_fenced(scratch, carry, aside if whole else None, label)
            except DBAPIError as error:
                if not _is_damage(error):
                    raise unreachable(error) from error
                self._switch(scratch, aside)
            else:
                aside = aside if whole else None
        else:
            self._switch(scratch, aside)
            if aside and dropped_if_empty(self._sibling(aside).engine, partial(self._drop, aside)):
                aside = None
        self.engine.dispose()
        return aside

    @contextmanager
    def overtaken(self) -> Iterator[Callable[[], bool]]:
        with self._moment() as (connection, _):
            since = moment(connection)

        def look() -> bool:
            with self._moment() as (later, _):
                return has_changed(later, since)

        yield look

    def damaged(self) -> bool:
        try:
            self.facts()
        except DatabaseUnreachable as error:
            return isinstance(error.__cause__, DBAPIError) and _is_damage(error.__cause__)
        return False

    def _replace_fenced(self, scratch: "Postgresql", carry: Carry, aside: str | None, label: Label) -> None:
        """Switch while writers wait: their locks end with their sessions, and readers go on until then."""
        fence = self.engine.connect()
        try:
            keep = _backend(fence)
            lock_out_writers(fence, digests.tables(fence), self.writer_seconds)
            with scratch.engine.begin() as new:
                carry(fence, new)
            self._switch(scratch, aside or self.previous_name, keep=keep, label=label())
        finally:
            fence.invalidate()
            fence.close()

    @property
    def previous_name(self) -> str:
        return self._beside("previous")

    def _switch(
        self, scratch: "Postgresql", old_name: str | None, *, keep: int = 0, label: str | None = None
    ) -> None:
        """Rename the old database to `old_name` and `scratch` into its place, in one transaction.

        The first rename locks the name, so that new connections wait, and then waits a few seconds
        until every session in the database has ended: another session ends them meanwhile, the one
        that fences off the writers (`keep`) last. What an earlier switch kept is dropped after this one.
        """
        passing, spare = self._beside("switch", _token()), self._beside("old", _token())
        renames = [(scratch.name, self.name)]
        if old_name is not None:
            renames = [(self.name, passing), *renames, (passing, old_name)]
        earlier = old_name == self.previous_name != scratch.name and self._has_previous()
        if earlier:
            renames.insert(0, (self.previous_name, spare))
        scratch.engine.dispose()
        names = [self.name, scratch.name, self.previous_name]
        with self._maintenance() as server, ending_sessions(self._maintenance, server, names, keep):
            try:
                with server.transaction():
                    for old, new in renames:
                        execute(server, "ALTER DATABASE {} RENAME TO {}", old, new)
                    label_database(server, self.name, None)
                    if old_name is not None:
                        label_database(server, old_name, note(label))
            except psycopg.errors.ObjectInUse as error:
                stayed = tell_sessions(server, self.name)
                raise Refused(
                    detail=f"a session in database {self.name} did not end: {stayed}",
                    hint="End it (a prepared transaction too: ROLLBACK PREPARED), and restore again.",
                ) from error
        if earlier:
            self._drop(spare)

    def _has_previous(self) -> bool:
        """Whether an earlier switch kept a database; Refused if the name is another's."""
        with self._maintenance() as server:
            found = server.execute(NOTE, (self.previous_name,)).fetchone()
        if found is not None and not str(found[0]).startswith(OURS):
            raise Refused(
                detail=f"there is a database {self.previous_name}, and it is not of this program",
                hint="Rename it: that is where a restore keeps what it replaces. Nothing was changed.",
            )
        return found is not None

    def previous(self, label: str) -> "Postgresql | None":
        with self._maintenance() as server:
            found = server.execute(NOTE, (self.previous_name,)).fetchone()
        return self._sibling(self.previous_name) if found == (note(label),) else None

    def _present(self) -> bool:
        with self._maintenance() as server:
            found = server.execute("SELECT 1 FROM pg_database WHERE datname = %s", (self.name,)).fetchone()
        return found is not None

    def sweep(self) -> None:
        pattern = f"{re.escape(self._beside())}_(scratch|old)_[0-9a-f]{{8}}"
        with self._maintenance() as server:
            left = server.execute(
                "SELECT datname FROM pg_database AS d WHERE datname ~ %s AND NOT EXISTS"
                " (SELECT FROM pg_stat_activity AS a WHERE a.datname = d.datname)",
                (f"^{pattern}$",),
            ).fetchall()
            for (name,) in left:
                with suppress(psycopg.errors.ObjectInUse):  # it has come into use: the next run looks again
                    execute(server, "DROP DATABASE IF EXISTS {}", name)

    def check_rights(self) -> None:
        with self._maintenance() as server:
            role, may_create = server.execute(
                "SELECT current_user, rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
            ).fetchone() or (self.url.username, False)
            owned = server.execute(
                "SELECT pg_has_role(datdba, 'MEMBER') FROM pg_database WHERE datname = %s", (self.name,)
            ).fetchone()
        if not may_create:
            grant = f"ALTER ROLE {quoted(role)} CREATEDB;"
            raise GrantMissing(role=role, what="create databases", grant=grant)
        if owned is not None and not owned[0]:
            grant = f"ALTER DATABASE {quoted(self.name)} OWNER TO {quoted(role)};"
            raise GrantMissing(role=role, what=f"rename database {self.name}", grant=grant)

    def _maintenance(self) -> AbstractContextManager[Session]:
        """A session in another database of the same server."""
        return session_beside(self._session, self.name, role=str(self.url.username))

    def watch(self, statement: str) -> Watch:
        return PostgresqlWatch(partial(self._connect, self.name, client_encoding="UTF8"), statement)

    def _connect(self, database: str, **more: str) -> Session:
        url = self.url.set(database=database)
        arguments: dict[str, Any] = {
            **url.translate_connect_args(username="user", database="dbname"),
            **url.query,
            **more,
        }
        return psycopg.connect(**arguments, autocommit=True, connect_timeout=CONNECT_SECONDS)

    @contextmanager
    def _session(self, database: str) -> Iterator[Session]:
        try:
            server = self._connect(database)
        except psycopg.Error as error:
            raise unreachable(error) from error
        with server:
            try:
                yield server
            except psycopg.Error as error:
                raise unreachable(error) from error

    def _environment(self) -> dict[str, str]:
        """What pg_dump and psql read of the connection; the password is in no argument list."""
        given = {
            "PGHOST": self.url.host or self.url.query.get("host"),
            "PGPORT": str(self.url.port) if self.url.port else None,
            "PGUSER": self.url.username,
            "PGPASSWORD": str(self.url.password) if self.url.password else None,
            **{f"PG{name.upper()}": self.url.query.get(name) for name in PASSED_ON},
            "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
        }
        return {**os.environ, **{name: str(value) for name, value in given.items() if value}}


def _token() -> str:
    return uuid4().hex[:8]


def _is_damage(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) in DAMAGE


def _backend(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def _major(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // 10000


def _version(connection: sa.Connection) -> str:
    return str(connection.exec_driver_sql("SHOW server_version").scalar_one())
