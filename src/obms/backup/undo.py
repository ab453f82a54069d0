"""What `restore --undo` goes back to: the record of the last restore, and its safety backup."""

import json

from obms.backup.storage import Storage

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
