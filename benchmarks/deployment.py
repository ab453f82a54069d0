"""A scratch deployment to measure and to break: a folder, a database, the settings that name it."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic_settings import SettingsConfigDict

from obms.app import open_database
from obms.config import Settings
from obms.databases import Facts
from tests.postgres import Server, clean_environment, running_server

COMMON = Path(__file__).parent / "common"
PROGRAM = Path(sys.executable).with_name("obms")
Kind = Literal["sqlite", "postgresql"]
Completed = subprocess.CompletedProcess[str]


class FromEnvironment(Settings):
    """The settings of a deployment, whatever .env file lies here."""

    model_config = SettingsConfigDict(env_file=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One database with the settings that name it; commands of both kinds see the same ones."""

    kind: Kind
    folder: Path
    settings: Mapping[str, str]
    server: Server | None = None
    secret_key: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def sqlite_file(self) -> Path:
        return self.folder / "data" / "openbadges.db"

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    @property
    def environment(self) -> dict[str, str]:
        path = os.environ["PATH"]
        if self.server:
            path = f"{self.server.bin_dir}{os.pathsep}{path}"
        own = {"DB_TYPE": self.kind, "SQLITE_FILE": str(self.sqlite_file), "BACKUP_DIR": str(self.backups)}
        return {**clean_environment(), **own, "SECRET_KEY": self.secret_key, **self.settings, "PATH": path}

    def run(self, *command: str | Path, **changed: str) -> Completed:
        """Run a command here, whatever it ends with."""
        environment = {**self.environment, **changed}
        return subprocess.run(
            command, cwd=self.folder, env=environment, check=False, capture_output=True, text=True
        )

    def obms(self, *arguments: str, **changed: str) -> Completed:
        return self.run(PROGRAM, *arguments, **changed)

    def must(self, *arguments: str) -> str:
        """What our command prints; RuntimeError with what it said when it fails."""
        result = self.obms(*arguments)
        if result.returncode:
            raise RuntimeError(f"obms {' '.join(arguments)}: exit {result.returncode}: {result.stderr}")
        return result.stdout

    def prepare(self, credentials: int, *more: str) -> None:
        """Make the database and fill it."""
        self.must("migrate")
        self.must("seed", "--credentials", str(credentials), *more)
        if self.server:  # as one that has stood for a while: its autovacuum would work beside the measured
            self.server.psql("VACUUM (ANALYZE)", self.settings["POSTGRES_DB"])

    def become(self, other: "Deployment") -> None:
        """Hold what another one of the same kind holds, to which nobody is connected."""
        if self.server:
            name, template = (each.settings["POSTGRES_DB"] for each in (self, other))
            self.server.psql(f'DROP DATABASE IF EXISTS "{name}"')
            self.server.psql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        else:
            shutil.copytree(other.sqlite_file.parent, self.sqlite_file.parent)

    def query(self, statement: str) -> str:
        """What a statement gives, by the database's own program; '' where it gives nothing."""
        if self.server:
            return self.server.psql(statement, self.settings["POSTGRES_DB"])
        result = self.run("sqlite3", self.sqlite_file, statement)
        result.check_returncode()
        return result.stdout.strip()

    def facts(self) -> Facts:
        """What the live database holds, by the same digests that prove a backup."""
        os.environ.update(self.environment)
        database = open_database(FromEnvironment())
        try:
            return database.facts()
        finally:
            database.engine.dispose()

    def lose(self) -> None:
        """Lose the database, and nothing else."""
        if self.server:
            self.server.psql(f'DROP DATABASE "{self.settings["POSTGRES_DB"]}" WITH (FORCE)')
        else:
            self.sqlite_file.unlink()

    def recreate(self) -> None:
        """Drop a PostgreSQL database and make it anew, empty, as a careful operator does before a restore."""
        assert self.server is not None
        name = self.settings["POSTGRES_DB"]
        self.server.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self.server.psql(f'CREATE DATABASE "{name}"')


def tuned_server() -> AbstractContextManager[Server]:
    """A PostgreSQL with the memory of a small server of one's own, and everything durable."""
    return running_server(fsync="on", shared_buffers="256MB", max_wal_size="4GB")


def on_sqlite(folder: Path) -> Deployment:
    folder.mkdir(parents=True)
    return Deployment(kind="sqlite", folder=folder, settings={})


def on_postgresql(folder: Path, server: Server, database: str) -> Deployment:
    folder.mkdir(parents=True)
    address = urlsplit(server.url(database))
    settings = {
        "POSTGRES_HOST": server.host,
        "POSTGRES_PORT": str(address.port),
        "POSTGRES_USER": server.user,
        "POSTGRES_PASSWORD": server.password,
        "POSTGRES_DB": database,
    }
    deployment = Deployment(kind="postgresql", folder=folder, settings=settings, server=server)
    deployment.recreate()
    return deployment


def write_and_die(path: Path, statements: str) -> None:
    """Write to a SQLite database from a process that is then killed, so that its WAL is left."""
    program = (
        "import sys; from pysqlite3 import dbapi2 as sqlite3\n"
        "writer = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "writer.execute('PRAGMA wal_autocheckpoint=0')\n"
        "writer.executescript(sys.argv[2])\n"
        "print('written', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(path), statements]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = writer.stdout.readline()
        writer.kill()
    if said.strip() != "written":
        raise RuntimeError("the writer did not write")
