"""Days of the journal that no backup needs any more, here or in a store: they are dropped, here and there."""

from datetime import datetime, timedelta

from obms.backup import Backups
from obms.backup.catalog import Backup, oldest
from obms.backup.shipping import drop_shipped, ship_to_all
from obms.errors import BackupNotFound, StorageFailed
from obms.observe import Event

# A revocation may be written on one day and be in the database only on the next.
MARGIN = timedelta(days=1)


def drop_outdated(backups: Backups) -> None:
    """Drop the days before the oldest backup of all places; needs the lock, and a proven run.

    Where a place cannot be asked, or a date cannot be believed, nothing is dropped. A store that
    lets nothing be removed keeps its objects: they are read and do no harm.
    """
    try:
        moment = _oldest_of_all(backups)
        if moment is None or not backups.later.journal.can_write:
            return
        dropped = _drop_before(backups, moment - MARGIN)
    except (StorageFailed, BackupNotFound) as error:
        backups.notify(Event(name="journal.not_dropped", ok=False, facts={"error": str(error)}))
        return
    if dropped:
        backups.notify(
            Event(name="journal.dropped", facts={"before": f"{moment:%Y-%m-%d}", "files": dropped})
        )


def _drop_before(backups: Backups, moment: datetime) -> list[str]:
    """A store that does not take what the journal tells of that keeps its old days too."""
    journal = backups.later.journal
    dropped = journal.drop_before(moment)
    for store in backups.stores:
        if ship_to_all(journal, (store,), backups.notify) is None:
            dropped += drop_shipped(store.storage, moment)
    return dropped


def _oldest_of_all(backups: Backups) -> datetime | None:
    """When the oldest backup was made, here or in a store; None if that is not known of one place."""
    places = (backups.storage, *(store.storage for store in backups.stores))
    found = [backup for place in places if (backup := oldest(place, backups.trusted)) is not None]
    moments = [_made_at(backup, backups.clock()) for backup in found]
    known = [moment for moment in moments if moment is not None]
    return min(known, default=None) if len(known) == len(moments) else None


def _made_at(backup: Backup, now: datetime) -> datetime | None:
    """The earlier of its two dates; None where one is ahead of the clock, or there is none."""
    told = [moment for moment in (backup.created_at, backup.named_at) if moment is not None]
    return min(told) if told and max(told) <= now else None
