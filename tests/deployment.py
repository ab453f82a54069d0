"""A whole server in a folder, to be used as its operator would: by settings and commands."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import pytest

from obms import cli
from obms.app import open_backups, open_database, open_server
from obms.backup import Backups
from obms.badges.seeding import seed
from obms.config import SECRETS, Settings, read_settings
from obms.databases import Database
from obms.migrations import migrate
from obms.server import Server as Application
from obms.web.probe import probe
from tests.postgres import Server, clean_environment

SECRET = "a secret key for the tests"
API_KEY = "an-api-key-for-the-tests"
FRESH_SECONDS = 60.0
# The names of files that are read with the settings, and may change.
FILE = re.compile(rf"({'|'.join(SECRETS)}|AUTH_\w+)_FILE$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Started(subprocess.Popen[str]):
    """A process that a failed test does not wait for: whatever it waits for may never come."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, error, trace)


@dataclass(slots=True, kw_only=True)
class Deployment:
    """A server: its folder, its environment, its database."""

    folder: Path
    environment: dict[str, str]
    database: Database
    postgres: Server | None

    @classmethod
    def make(cls, folder: Path, postgres: Server | None, *, like: "Deployment | None" = None) -> "Deployment":
        """A migrated, empty one, or a copy of another."""
        name = f"test_{uuid4().hex[:12]}"
        environment = {
            "SECRET_KEY": SECRET,
            "AUTH_API_KEY": API_KEY,
            "BACKUP_DIR": str(folder / "backups"),
            "BACKUP_SCHEDULE": "off",
            "SQLITE_FILE": str(folder / "data" / "openbadges.db"),
        }
        if postgres is not None:
            environment["DATABASE_URL"] = postgres.url(name)
        database = open_database(_settings_of(environment))
        made = cls(folder=folder, environment=environment, database=database, postgres=postgres)
        if like is not None:
            made.become(like)
        else:
            database.create()
            migrate(database.engine)
        return made

    @classmethod
    @contextmanager
    def made(
        cls, folder: Path, postgres: Server | None, *, like: "Deployment | None" = None
    ) -> Iterator["Deployment"]:
        """As `make`; its database is dropped at the end."""
        made = cls.make(folder, postgres, like=like)
        yield made
        made.database.engine.dispose()
        if postgres is not None and postgres.running():
            _drop_databases(postgres, str(made.database.engine.url.database))

    def become(self, other: "Deployment") -> None:
        """Hold what another one of the same kind holds: its rows and its backups."""
        for each in (self, other):
            each.database.engine.dispose()
        if other.backup_dir.exists():
            shutil.copytree(other.backup_dir, self.backup_dir, dirs_exist_ok=True)
        if self.postgres is None:
            shutil.copytree(other.folder / "data", self.folder / "data", dirs_exist_ok=True)
            return
        name, template = (str(each.database.engine.url.database) for each in (self, other))
        self.postgres.execute(
            f'DROP DATABASE IF EXISTS "{name}"',
            f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY',
        )

    @property
    def settings(self) -> Settings:
        return _settings_of(self.environment)

    @property
    def backups(self) -> Backups:
        """The same objects that the command uses, in this process."""
        return open_backups(self.settings, probe)

    @property
    def application(self) -> Application:
        return open_server(self.settings)

    @property
    def backup_dir(self) -> Path:
        return self.folder / "backups"

    def seed(self, credentials: int = 30, *, number: int = 1, proof: str = "jwt") -> None:
        """Fill it with really signed badges."""
        server = self.application
        seed(
            server.database.engine,
            server.site,
            credentials=credentials,
            seed=number,
            proof="jwt" if proof == "jwt" else "data-integrity",
            progress=lambda _count: None,
        )
        server.database.engine.dispose()

    def obms(self, *arguments: str, **environment: str) -> Answer:
        """Run the command in this process (its own `main`, its real exit code)."""
        out, err = io.StringIO(), io.StringIO()
        with (
            _environment({**self.environment, **environment}),
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            patch.setattr(sys, "argv", ["obms", *arguments])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        return Answer(code=int(ended.value.code or 0), out=out.getvalue(), err=err.getvalue())

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start the command as a process of its own."""
        return self.start_reading(subprocess.DEVNULL, *arguments, **environment)

    def start_reading(self, stdin: int, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """The same with this as its input."""
        return Started(
            [sys.executable, "-m", "obms", *arguments],
            cwd=self.folder,
            env={**clean_environment(), **self.environment, **environment},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def made_backup(self) -> Any:
        """The JSON of a run that was proven."""
        answer = self.obms("backup", "run", "--json")
        assert answer.code == 0, answer.err
        assert answer.json["proven"]
        return answer.json


def _settings_of(environment: Mapping[str, str]) -> Settings:
    """What is read there, which takes long, and is the same again as long as nothing has changed."""
    inner, outer = (frozenset(names.items()) for names in (environment, os.environ))
    read = _settings_as_set.__wrapped__ if any(map(FILE.match, environment)) else _settings_as_set
    return read(inner, outer)


@cache
def _settings_as_set(inner: frozenset[tuple[str, str]], _outer: frozenset[tuple[str, str]]) -> Settings:
    with _environment(dict(inner)):
        return read_settings()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """These settings and no other: neither the caller's nor those of a .env file."""
    with pytest.MonkeyPatch.context() as patch:
        for name in Settings.model_fields:
            patch.delenv(name.upper(), raising=False)
            patch.delenv(f"{name.upper()}_FILE", raising=False)
        for name, value in values.items():
            patch.setenv(name, value)
        patch.setitem(Settings.model_config, "env_file", None)
        yield


Fill = Callable[[Deployment], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A server that is put back as it was `kept`, always in the same place: its records name that."""

    server: Deployment
    kept: Path
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Templates:
    """Servers made once in a process, for its tests to copy: to make one takes longer than many a test."""

    folder: Path
    made: dict[tuple[bool, Fill | None], Deployment] = field(default_factory=dict)
    prepared: dict[Fill, Prepared] = field(default_factory=dict)

    def find(self, postgres: Server | None, fill: Fill | None = None) -> Deployment:
        """A migrated one of this kind, empty or filled."""
        kind = postgres is not None, fill
        if kind not in self.made:
            folder = self.folder / str(len(self.made))
            self.made[kind] = Deployment.make(folder, postgres)
            if fill is not None:
                fill(self.made[kind])
        return self.made[kind]

    @contextmanager
    def stand_ready(self, prepare: Fill) -> Iterator[Deployment]:
        """A server on SQLite with badges, as it was once prepared, and that not long ago."""
        known = self.prepared.get(prepare)
        if known is None or time.monotonic() - known.at > FRESH_SECONDS:
            known = self._prepare(prepare)
        else:
            shutil.rmtree(known.server.folder)
            shutil.copytree(known.kept, known.server.folder, symlinks=True)
        server = replace(
            known.server,
            environment=dict(known.server.environment),
            database=open_database(known.server.settings),
        )
        yield server
        server.database.engine.dispose()

    def _prepare(self, prepare: Fill) -> Prepared:
        folder = self.folder / uuid4().hex
        server = Deployment.make(folder / "server", None, like=self.find(None, Deployment.seed))
        prepare(server)
        server.database.engine.dispose()
        shutil.copytree(server.folder, folder / "kept", symlinks=True)
        self.prepared[prepare] = Prepared(server=server, kept=folder / "kept", at=time.monotonic())
        return self.prepared[prepare]


def _drop_databases(postgres: Server, name: str) -> None:
    """The database, and those that its restores have put beside it."""
    found = postgres.psql(f"SELECT datname FROM pg_database WHERE datname LIKE '{name}%'").split()
    postgres.execute(*(f'DROP DATABASE "{each}" WITH (FORCE)' for each in found))
