"""What `restore --undo` goes back to: the record of the last restore, and its safety backup."""

import json

from obms.backup import Backups
from obms.backup.catalog import PREFIXES
from obms.backup.storage import Storage
from obms.errors import NothingToUndo, Refused

RECORD = "last_restore.json"
SAFETY = "safety"


def read_record(storage: Storage) -> bytes:
    """The record of the last restore, empty where there is none."""
    return b"".join(storage.get(RECORD)) if RECORD in set(storage.names(RECORD)) else b""


def safety_in(record: bytes) -> str | None:
    """The id of the safety backup, None where nothing was replaced; ValueError if it cannot be read."""
    if not record:
        return None
    try:
        safety = json.loads(record)["safety_backup"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(RECORD) from error
    return str(safety) if safety else None


def last_safety_backup(backups: Backups) -> str:
    """What `undo` would bring back; NothingToUndo when no restore replaced a readable database.

    Refused when that was a database of the other kind: nothing here was replaced.
    """
    try:
        safety = safety_in(read_record(backups.storage))
    except ValueError:
        safety = None
    if not safety:
        raise NothingToUndo
    ours = backups.database.kind
    if safety.startswith(tuple(prefix for kind, prefix in PREFIXES.items() if kind != ours)):
        raise Refused(
            detail=f"the last restore was before the move to {ours}: it replaced what {safety} holds",
            hint=f"`obms restore {safety} --yes` brings that here.",
        )
    return safety
