"""Pins: a small file beside a backup that keeps it, whatever the policy says."""

import json
from dataclasses import dataclass
from datetime import datetime

from obms.backup.storage import Storage
from obms.errors import BackupNotFound

PIN_END = ".pin.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Why a backup is kept, and since when; both may be unknown, it is the file itself that pins."""

    reason: str = ""
    pinned_at: datetime | None = None


def read_pin(storage: Storage, name: str) -> Pin:
    """The pin in this file, which is there; one that is damaged pins all the same."""
    try:
        content = json.loads(b"".join(storage.get(name)))
        return Pin(reason=str(content["reason"]), pinned_at=datetime.fromisoformat(content["pinned_at"]))
    except (ValueError, LookupError, TypeError, BackupNotFound, RecursionError):
        return Pin()


def write_pin(storage: Storage, name: str, pin: Pin) -> None:
    content = {"reason": pin.reason, "pinned_at": pin.pinned_at.isoformat() if pin.pinned_at else None}
    storage.put(name, iter((json.dumps(content, ensure_ascii=False, indent=2).encode() + b"\n",)))
