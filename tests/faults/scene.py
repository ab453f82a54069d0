"""A small server that is put back as it was before each shot, and what lies around it afterwards."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql

from obms.app import open_database
from obms.databases.sqlite_snapshot import connect
from tests.deployment import Deployment
from tests.postgres import Server
from tests.real_faults import wait_until

QUIET = """
SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A server as it stood: `kept` are its files; `template` its PostgreSQL database, None if it had none.

    Where it is damaged, the head of the SQLite file is overwritten while the API has it open.
    """

    stands_for: Deployment
    kept: Path
    template: str | None
    damaged: bool = False

    @classmethod
    def of(cls, deployment: Deployment, *, with_database: bool = True) -> "Scene":
        """Keep what `deployment` is now; on SQLite with what is in its write-ahead log."""
        kept = deployment.folder / "kept"
        for name in ("backups", "data"):
            if (deployment.folder / name).exists():
                shutil.copytree(deployment.folder / name, kept / name)
        deployment.database.engine.dispose()
        template = getattr(deployment.database, "name", None) if with_database else None
        return cls(stands_for=deployment, kept=kept, template=template)

    @contextmanager
    def put_back(self) -> Iterator[Deployment]:
        """The server as it stood, to be shot at."""
        stage = self.kept.with_name("stage")
        shutil.copytree(self.kept, stage)
        paths = {
            "BACKUP_DIR": str(stage / "backups"),
            "SQLITE_FILE": str(stage / "data" / "openbadges.db"),
        }
        name = f"shot_{uuid4().hex[:12]}"
        if self.postgres is not None:
            paths["DATABASE_URL"] = self.postgres.url(name)
            if self.template is not None:
                self._execute("CREATE DATABASE {} TEMPLATE {}", name, self.template)
        made = replace(self.stands_for, folder=stage, environment={**self.stands_for.environment, **paths})
        made.database = open_database(made.settings)
        with damage(stage / "data" / "openbadges.db") if self.damaged else nullcontext():
            yield made
        made.database.engine.dispose()
        shutil.rmtree(stage)
        for left in self.databases_of(made):
            self._execute("DROP DATABASE {} WITH (FORCE)", left)

    @property
    def postgres(self) -> Server | None:
        return self.stands_for.postgres

    def wait_until_quiet(self) -> None:
        """Until the server of the database has noticed that its clients are dead."""
        if self.postgres is None:
            return
        with psycopg.connect(self.postgres.url(), autocommit=True) as connection:
            wait_until(
                lambda: connection.execute(QUIET).fetchone() == (True,), "the end of the dead sessions"
            )

    def databases_of(self, made: Deployment) -> list[str]:
        """The database of `made`, and those that were put beside it; none on SQLite."""
        if self.postgres is None:
            return []
        with psycopg.connect(self.postgres.url(), autocommit=True) as connection:
            query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY datname"
            return [name for (name,) in connection.execute(query, (name_of(made),))]

    def _execute(self, statement: str, *names: str) -> None:
        assert self.postgres is not None
        with psycopg.connect(self.postgres.url(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*(sql.Identifier(name) for name in names)))


@contextmanager
def in_use(made: Deployment) -> Iterator[None]:
    """Have the SQLite file open, as the API has it: what is written stays in the write-ahead log."""
    if made.postgres is not None:
        yield
        return
    with closing(connect(made.folder / "data" / "openbadges.db")) as reader:
        reader.execute("SELECT count(*) FROM users").fetchall()
        yield


@contextmanager
def damage(path: Path) -> Iterator[None]:
    with closing(connect(path)) as reader:
        reader.execute("SELECT count(*) FROM users").fetchall()
        with path.open("r+b", buffering=0) as file:
            file.write(b"damaged in its h")
        yield


def name_of(made: Deployment) -> str:
    """The name of its PostgreSQL database."""
    return made.environment["DATABASE_URL"].rsplit("/", maxsplit=1)[1]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder; empty where there is no folder."""
    if not folder.exists():
        return {}
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
