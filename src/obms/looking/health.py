"""How the backups stand, as `/health` tells it at each request."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from obms.backup.drill_report import Drill


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupHealth:
    """How the backups stand; `stale` when the newest proven one is older than BACKUP_MAX_AGE, or missing.

    `journal_problem` tells why revocations cannot be written beside the backups.
    """

    newest_proven: datetime | None
    age: timedelta | None
    next_run: datetime | None
    last_run: datetime | None
    stale: bool
    problem: str | None = None
    journal_problem: str | None = None
    next_drill: datetime | None = None
    last_drill: Drill | None = None

    @property
    def degraded(self) -> bool:
        return self.stale or self.journal_problem is not None
