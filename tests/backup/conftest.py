"""Servers with badges and a backup, and what the tests of backing up share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from obms.backup.catalog import Backup, find
from obms.backup.manifest import Manifest
from obms.backup.storage import Folder
from obms.backup.stores import Store, open_store
from obms.databases import Chunks, writing
from obms.observe import Event
from obms.schema import credentials, issuers
from tests.deployment import Deployment
from tests.postgres import Server
from tests.proxy import Proxy, proxy_to
from tests.s3_server import BUCKET, S3Server


@dataclass(frozen=True, slots=True)
class Noted:
    """A hook that keeps what it is told."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def place() -> str:
    """A prefix of this test alone."""
    return f"{BUCKET}/{uuid4().hex}"


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[Proxy]:
    with proxy_to(s3.port) as running:
        yield running


@pytest.fixture
def server(stocked_sqlite: Deployment, s3: S3Server) -> Deployment:
    """A server with badges and the key of the S3 server."""
    stocked_sqlite.environment |= s3.environment
    return stocked_sqlite


@pytest.fixture
def store(s3: S3Server, place: str) -> Store:
    return open_store(s3.url(place), s3.credentials)


class Watched(Folder):
    """A folder that notes what is read of it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read: list[str] = []

    def get(self, name: str) -> Chunks:
        self.read.append(name)
        return super().get(name)


def images(server: Deployment) -> list[str]:
    """What a run has published or half published; the lock and the records are not of that."""
    records = {"last_run.json", "last_restore.json", "last_prune.json", "counters.json"}
    known = {".lock", ".schedule", ".watch", ".work", "journal", *records}
    if not server.backup_dir.exists():
        return []
    return sorted(path.name for path in server.backup_dir.iterdir() if path.name not in known)


def left_in_work(server: Deployment) -> list[str]:
    """What is left in the work folder; nothing should be."""
    work = server.backup_dir / ".work"
    return sorted(path.name for path in work.iterdir()) if work.exists() else []


def scratch_databases(server: Deployment) -> list[str]:
    """The scratch databases on the PostgreSQL server of this deployment."""
    if server.postgres is None:
        return []
    name = str(server.database.engine.url.database)
    return server.postgres.psql(
        f"SELECT datname FROM pg_database WHERE datname ~ '^{name[:40]}_(scratch|switch)_'"
    ).split()


def assert_nothing_is_left(server: Deployment) -> None:
    assert left_in_work(server) == []
    assert scratch_databases(server) == []


def found(server: Deployment, id: str) -> Backup:
    return find(server.backups.storage, id, server.backups.trusted)


def manifest_of(server: Deployment, id: str) -> Manifest:
    manifest = found(server, id).manifest
    assert manifest is not None
    return manifest


def execute(server: Deployment, *statements: str) -> None:
    """Change the live database."""
    with writing(server.database.engine) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def be_of_the_first_schema(server: Deployment) -> None:
    """The live database as a server of revision 0001 has it."""
    execute(
        server,
        "DROP TABLE audit_events",
        "DROP TABLE endorsements",
        "DROP TABLE related_achievements",
        "DROP INDEX ix_credentials_updated_at",
        "ALTER TABLE credentials DROP COLUMN updated_at",
        "ALTER TABLE issuers DROP COLUMN deleted_at",
        "ALTER TABLE status_lists DROP COLUMN ttl",
        "ALTER TABLE users DROP COLUMN disabled_at",
        "ALTER TABLE users DROP COLUMN sessions_since",
        "UPDATE alembic_version SET version_num = '0001'",
    )


LATER_TABLES = ("audit_events", "endorsements", "related_achievements")


def lose_half(server: Deployment) -> None:
    """Half of the credentials are gone."""
    ids = sa.select(credentials.c.id).order_by(credentials.c.id).limit(15)
    with writing(server.database.engine) as connection:
        found = connection.execute(ids).scalars().all()
        connection.execute(sa.delete(credentials).where(credentials.c.id.in_(found)))


def lose_schema(server: Deployment) -> None:
    """An empty database stands where that of the server was."""
    server.database.engine.dispose()
    if server.postgres is None:
        for file in (server.folder / "data").iterdir():
            file.unlink()
        server.database.create()
    else:
        execute(server, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")


def add_issuer(server: Deployment, name: str) -> None:
    with writing(server.database.engine) as connection:
        row = connection.execute(sa.select(issuers).limit(1)).mappings().one()
        connection.execute(sa.insert(issuers), {**row, "id": name, "name": name})


def issuer_names(server: Deployment) -> set[str]:
    with server.database.engine.connect() as connection:
        return set(connection.execute(sa.select(issuers.c.name)).scalars())


Backed = tuple[Deployment, Any]


@contextmanager
def example(folder: Path, postgres: Server | None) -> Iterator[Backed]:
    """A server with badges and one proven backup of them, for the tests of this process to copy."""
    with Deployment.made(folder, postgres) as server:
        server.seed()
        yield server, server.made_backup()


@pytest.fixture(scope="session")
def example_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backed]:
    with example(tmp_path_factory.mktemp("example"), None) as made:
        yield made


@pytest.fixture(scope="session")
def example_postgresql(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> Iterator[Backed]:
    with example(tmp_path_factory.mktemp("example"), postgres) as made:
        yield made


def copied(server: Deployment, request: pytest.FixtureRequest) -> Backed:
    kind = "postgresql" if server.postgres else "sqlite"
    original, made = request.getfixturevalue(f"example_{kind}")
    server.become(original)
    return server, deepcopy(made)


@pytest.fixture
def backed(deployment: Deployment, request: pytest.FixtureRequest) -> Backed:
    """A server with badges and one proven backup of them."""
    return copied(deployment, request)


@pytest.fixture
def backed_sqlite(sqlite: Deployment, request: pytest.FixtureRequest) -> Backed:
    return copied(sqlite, request)


@pytest.fixture
def backed_postgresql(postgresql: Deployment, request: pytest.FixtureRequest) -> Backed:
    return copied(postgresql, request)


@pytest.fixture
def put_file(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Writes a file somewhere outside of the backup folder."""

    def put(name: str, data: bytes) -> Path:
        path = tmp_path / "elsewhere" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    return put
