"""What the API is given: made by the composition root, and used by every route."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from obms.backup.journal import Entry
from obms.badges import Site
from obms.databases import Database
from obms.gate import Gate

if TYPE_CHECKING:
    from obms.badges.fetching import Fetcher
    from obms.looking import Finding
    from obms.looking.health import BackupHealth


def open_fetcher(allowed: tuple[str, ...] = ()) -> "Fetcher":
    from obms.badges.fetching import Fetcher

    return Fetcher(allowed=allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What the API is given. `keep` writes entries beside the backups, and never fails.

    `write` begins a unit of work, which is committed when it ends; many threads may have one.
    """

    database: Database
    write: Callable[[], AbstractContextManager[Connection]]
    site: Site
    version: str
    admin_key: str | None = field(repr=False)
    backup_health: "Callable[[], BackupHealth]"
    metrics: Callable[[], bytes]
    keep: Callable[[Sequence[Entry]], None]
    needed_revision: str
    gate: Gate = field(default_factory=Gate)
    look: "Callable[[], list[Finding]]" = list
    fetcher: "Fetcher" = field(default_factory=open_fetcher)
