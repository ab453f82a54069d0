"""The composition root: settings become objects here, and nowhere else."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from obms.badges import Site
from obms.databases import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupHealth:
    """How the backups stand."""

    newest_proven: datetime | None
    age: timedelta | None
    next_run: datetime | None
    last_run: datetime | None
    stale: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What the API is given."""

    database: Database
    site: Site
    version: str
    admin_key: str | None
    backup_health: Callable[[], BackupHealth]
    needed_revision: str


def open_server_from_environment() -> Server:
    """The server as the environment sets it."""
    raise NotImplementedError
