"""PostgreSQL as a Database: the image is plain SQL, and a restore is a rename."""

import os
import re
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import psycopg
import sqlalchemy as sa
from psycopg import sql
from psycopg.rows import TupleRow
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from obms.databases import Carry, Database, Facts, digests
from obms.databases.postgresql_dump import KNOWS_TIMEOUT, PostgresqlSnapshot, read_dump, without_timeout
from obms.databases.postgresql_errors import is_missing, load_failed, unreachable
from obms.databases.postgresql_tools import find_tools
from obms.databases.processes import write_to
from obms.errors import DatabaseMissing, GrantMissing, Refused

CONNECT_SECONDS = 10
CANCEL_SECONDS = 0.1
WRITER_SECONDS = 20
DAMAGE = ("XX001", "XX002", "58030")  # data or index corrupted, input/output error
# As its errors are told with their SQLSTATE, whatever the language of the server.
QUIETLY = ("-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose")
Session = psycopg.Connection[TupleRow]


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
            connect_args={"connect_timeout": CONNECT_SECONDS},
            json_serializer=digests.canonical_json,
        )

    def create(self) -> None:
        """An empty database, where there is none."""
        if self._present():
            return
        with self._maintenance() as server:
            _execute(server, "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", self.name)

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
        with self._moment() as (connection, exported), ThreadPoolExecutor(1) as pool:
            major = _major(connection)
            tools = find_tools(self.bin_dir, at_least=major)
            version = _version(connection)
            # From here on the connection belongs to the thread that counts.
            counted = pool.submit(_facts, connection, deep=True)
            with _given_up(connection, counted):
                yield PostgresqlSnapshot(
                    command=(
                        *tools.command("pg_dump", self.name),
                        f"--snapshot={exported}",
                        "--no-owner",
                        "--no-privileges",
                        "--encoding=UTF8",
                    ),
                    environment=self._environment(),
                    counted=counted,
                    server_version=version,
                    server_major=major,
                    tools={"pg_dump": tools.version},
                )
            counted.result()

    @contextmanager
    def _moment(self) -> Iterator[tuple[sa.Connection, str]]:
        try:
            with (
                self.engine.connect().execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                ) as connection,
                connection.begin(),
            ):
                yield connection, connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()
        except DBAPIError as error:
            if is_missing(error):
                raise DatabaseMissing(name=self.name) from error
            raise unreachable(error) from error

    @contextmanager
    def scratch(self) -> Iterator["Postgresql"]:
        self.check_rights()
        copy = self._sibling(f"{self.name[:40]}_scratch_{uuid4().hex[:8]}")
        copy.create()
        try:
            # A session that stays tells the sweep of another run that this database is in use.
            with copy._session(copy.name):  # noqa: SLF001 - its own class
                yield copy
        finally:
            copy.engine.dispose()
            self._drop(copy.name)

    def _sibling(self, name: str) -> "Postgresql":
        return Postgresql(self.url.set(database=name), bin_dir=self.bin_dir, pooled=True)

    def _drop(self, name: str) -> None:
        with self._maintenance() as server:
            _execute(server, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def load(self, image: Path) -> None:
        with self._maintenance() as server:
            major = server.info.server_version // 10000
        tools = find_tools(self.bin_dir, at_least=major)
        environment = self._environment() | {"PGOPTIONS": "-c synchronous_commit=off"}
        chunks = read_dump(image)
        write_to(
            (*tools.command("psql", self.name), *QUIETLY, "-f", "-"),
            chunks if major >= KNOWS_TIMEOUT else without_timeout(chunks),
            env=environment,
            error=load_failed,
        )
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")

    def facts(self, *, digests: bool = True) -> Facts:
        try:
            with self.engine.connect() as connection:
                return _facts(connection, deep=digests)
        except DBAPIError as error:
            raise unreachable(error) from error

    def replace(self, scratch: Database, carry: Carry, *, label: str | None = None) -> str | None:
        assert isinstance(scratch, Postgresql)
        aside = None
        if self.exists():
            try:
                self._replace_fenced(scratch, carry, label)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in DAMAGE:
                    raise unreachable(error) from error
                aside = self._aside_name()
                self._switch(scratch, aside)
        else:
            aside = self._aside_name() if self._present() else None
            self._switch(scratch, aside)
        self.engine.dispose()
        return aside

    def _replace_fenced(self, scratch: "Postgresql", carry: Carry, label: str | None) -> None:
        """Switch while writers wait: their locks end with their sessions, and readers go on until then."""
        fence = self.engine.connect()
        try:
            names = ", ".join(_quoted(name) for name in digests.tables(fence))
            fence.exec_driver_sql(f"SET LOCAL lock_timeout = '{self.writer_seconds}s'")
            fence.exec_driver_sql(f"LOCK TABLE {names} IN EXCLUSIVE MODE")
            with scratch.engine.begin() as new:
                carry(fence, new)
            self._switch(scratch, self.previous_name, keep=_backend(fence), label=label)
        finally:
            fence.invalidate()
            fence.close()

    @property
    def previous_name(self) -> str:
        return f"{self.name[:50]}_previous"

    def _aside_name(self) -> str:
        return f"{self.name[:30]}_set_aside_{datetime.now(UTC):%Y%m%d%H%M%S}"

    def _switch(
        self, scratch: "Postgresql", old_name: str | None, *, keep: int = 0, label: str | None = None
    ) -> None:
        """Rename the old database to `old_name` and `scratch` into its place, in one transaction.

        The first rename locks the name, so that new connections wait, and then waits a few seconds
        until every session in the database has ended: another session ends them meanwhile, the one
        that fences off the writers (`keep`) last.
        """
        passing = f"{self.name[:40]}_switch_{uuid4().hex[:8]}"
        renames = [(self.name, passing), (scratch.name, self.name), (passing, old_name)]
        if old_name is None:
            renames = [(scratch.name, self.name)]
        elif old_name == self.previous_name != scratch.name:
            self._drop(old_name)
        scratch.engine.dispose()
        with self._maintenance() as server, self._ending_sessions(server, scratch.name, keep):
            try:
                with server.transaction():
                    for old, new in renames:
                        _execute(server, "ALTER DATABASE {} RENAME TO {}", old, str(new))
                    _label(server, self.name, None)
                    if old_name is not None:
                        _label(server, old_name, label)
            except psycopg.errors.ObjectInUse as error:
                raise Refused(
                    detail=f"a session in database {self.name} did not end",
                    hint="Stop what uses the database, or grant pg_signal_backend to this role.",
                ) from error

    @contextmanager
    def _ending_sessions(self, server: Session, scratch_name: str, keep: int) -> Iterator[None]:
        """Meanwhile, once `server` holds a database's name, end the sessions in both, `keep` last."""
        over = Event()

        def end() -> None:
            with self._maintenance() as other:
                while not over.is_set():
                    if other.execute(HOLDS_NAME, (server.info.backend_pid,)).fetchone():
                        # Without the right to end one of them the rename fails, and says so.
                        with suppress(psycopg.errors.InsufficientPrivilege):
                            for kept in {keep: 0, 0: 0}:
                                other.execute(END_SESSIONS, ([self.name, scratch_name], kept))
                        return
                    over.wait(0.01)

        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(end)
            try:
                yield
            finally:
                over.set()
                ended.result()

    def previous(self, label: str) -> "Postgresql | None":
        with self._maintenance() as server:
            found = server.execute(LABEL, (self.previous_name,)).fetchone()
        return self._sibling(self.previous_name) if found == (label,) else None

    def _present(self) -> bool:
        with self._maintenance() as server:
            found = server.execute("SELECT 1 FROM pg_database WHERE datname = %s", (self.name,)).fetchone()
        return found is not None

    def sweep(self) -> None:
        pattern = f"{re.escape(self.name[:40])}_scratch_[0-9a-f]{{8}}"
        with self._maintenance() as server:
            left = server.execute(
                "SELECT datname FROM pg_database AS d WHERE datname ~ %s AND NOT EXISTS"
                " (SELECT FROM pg_stat_activity AS a WHERE a.datname = d.datname)",
                (f"^{pattern}$",),
            ).fetchall()
            for (name,) in left:
                _execute(server, "DROP DATABASE IF EXISTS {}", name)

    def check_rights(self) -> None:
        with self._maintenance() as server:
            role, may_create = server.execute(
                "SELECT current_user, rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
            ).fetchone() or (self.url.username, False)
            owned = server.execute(
                "SELECT pg_has_role(datdba, 'MEMBER') FROM pg_database WHERE datname = %s", (self.name,)
            ).fetchone()
        if not may_create:
            grant = f"ALTER ROLE {_quoted(role)} CREATEDB;"
            raise GrantMissing(role=role, what="create databases", grant=grant)
        if owned is not None and not owned[0]:
            grant = f"ALTER DATABASE {_quoted(self.name)} OWNER TO {_quoted(role)};"
            raise GrantMissing(role=role, what=f"rename database {self.name}", grant=grant)

    def _maintenance(self) -> AbstractContextManager[Session]:
        """A session in another database of the same server."""
        return self._session("postgres")

    @contextmanager
    def _session(self, database: str) -> Iterator[Session]:
        url = self.url.set(database=database)
        arguments: dict[str, Any] = {
            **url.translate_connect_args(username="user", database="dbname"),
            **url.query,
        }
        try:
            server = psycopg.connect(**arguments, autocommit=True, connect_timeout=CONNECT_SECONDS)
        except psycopg.OperationalError as error:
            raise unreachable(error) from error
        with server:
            try:
                yield server
            except psycopg.OperationalError as error:
                raise unreachable(error) from error

    def _environment(self) -> dict[str, str]:
        """What pg_dump and psql read of the connection; the password is in no argument list."""
        given = {
            "PGHOST": self.url.host or self.url.query.get("host"),
            "PGPORT": str(self.url.port) if self.url.port else None,
            "PGUSER": self.url.username,
            "PGPASSWORD": str(self.url.password) if self.url.password else None,
            "PGSSLMODE": self.url.query.get("sslmode"),
            "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
        }
        return {**os.environ, **{name: str(value) for name, value in given.items() if value}}


HOLDS_NAME = """
SELECT 1 FROM pg_locks
WHERE pid = %s AND classid = 'pg_database'::regclass AND mode = 'AccessExclusiveLock' AND granted
"""
LABEL = """
SELECT description FROM pg_shdescription JOIN pg_database AS d ON d.oid = objoid
WHERE classoid = 'pg_database'::regclass AND datname = %s
"""
END_SESSIONS = """
SELECT count(pg_terminate_backend(pid, 4000)) FROM pg_stat_activity
WHERE datname = ANY(%s) AND pid NOT IN (pg_backend_pid(), %s)
"""


def _facts(connection: sa.Connection, *, deep: bool) -> Facts:
    names = digests.tables(connection)
    return Facts(
        revision=digests.revision(connection),
        rows=digests.count(connection, names),
        digests={name: digests.digest(connection, name) for name in names} if deep else {},
        problems=tuple(connection.exec_driver_sql(PROBLEMS).scalars()) if deep else (),
    )


PROBLEMS = """
SELECT 'constraint ' || conname || ' of ' || conrelid::regclass || ' is not valid'
FROM pg_constraint WHERE NOT convalidated
UNION ALL
SELECT 'index ' || indexrelid::regclass || ' is not valid' FROM pg_index WHERE NOT indisvalid
"""


def _label(server: Session, name: str, label: str | None) -> None:
    """Note on a database which safety backup holds the same content; None takes the note away."""
    statement = sql.SQL("COMMENT ON DATABASE {} IS {}")
    server.execute(statement.format(sql.Identifier(name), sql.Literal(label)))


def _execute(server: Session, statement: str, *names: str) -> None:
    server.execute(sql.SQL(statement).format(*(sql.Identifier(name) for name in names)))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _backend(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def _major(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // 10000


def _version(connection: sa.Connection) -> str:
    return str(connection.exec_driver_sql("SHOW server_version").scalar_one())


@contextmanager
def _given_up(connection: sa.Connection, counted: Future[Facts]) -> Iterator[None]:
    """When what is done meanwhile fails, the counting is ended too: it may wait for another's lock."""
    session: Any = connection.connection.driver_connection
    try:
        yield
    except BaseException:
        while not wait([counted], timeout=CANCEL_SECONDS).done:
            with suppress(psycopg.Error):  # the session has ended by itself
                session.cancel()
        raise
