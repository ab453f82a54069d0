"""What is counted over all runs and processes, in a small file beside the backups."""

import fcntl
import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from obms.observe import Clock, Event, Hook

FILE = "counters.json"
RUNS, FAILURES, REFUSALS, UNDELIVERED = "runs", "failures", "refusals", "undelivered_notices"
STORE = "store "  # before the name of a store
NOTICE = "notice "  # before the name of a place that is told
COUNTED = (RUNS, FAILURES, REFUSALS, UNDELIVERED)
RECOVERIES = {"restore.done": "restore", "drill.done": "drill"}


def counting(folder: Path, clock: Clock, report: Hook) -> Hook:
    """The hook that counts, and keeps how long the last restore and the last drill took.

    What cannot be counted, for a full disk say, fails nothing; `report` is told of it.
    """

    def count(event: Event) -> None:
        raised, kept = _of(event, clock())
        if not raised and not kept:
            return
        try:
            _change(folder / FILE, raised, kept)
        except OSError as error:
            facts = {"error": f"{folder / FILE}: {error.strerror or error}"}
            report(Event(name="counters.failed", ok=False, facts=facts))

    return count


def read_counters(folder: Path) -> Mapping[str, Any]:
    """What was counted; nothing where there is no such file, or it is damaged."""
    try:
        return _parsed((folder / FILE).read_bytes())
    except OSError:
        return {}


def _of(event: Event, now: datetime) -> tuple[tuple[str, ...], dict[str, Any]]:
    if event.name == "backup.run":
        return ((RUNS,) if event.ok else (RUNS, FAILURES)), {}
    if event.name == "backup.copied":
        complete = {"complete_at": now.timestamp()} if event.ok else {}
        return (), {f"{STORE}{event.facts.get('store')}": {"ok": event.ok, **complete}}
    if event.name in RECOVERIES:
        return (), {RECOVERIES[event.name]: {"at": now.timestamp(), "ok": event.ok, **_spans(event)}}
    if event.name in ("notice.failed", "notice.delivered"):
        newest = {f"{NOTICE}{event.facts.get('to')}": {"ok": event.ok, "at": now.timestamp()}}
        return (() if event.ok else (UNDELIVERED,)), newest
    return ((REFUSALS,) if event.name == "backup.refused" else ()), {}


def _spans(event: Event) -> dict[str, object]:
    """How long it took, and what would have been lost; what was not found out stays as it was."""
    took = event.facts.get("rto_seconds", event.facts.get("seconds"))
    found = {"seconds": took, "rpo_seconds": event.facts.get("rpo_seconds")}
    return {name: value for name, value in found.items() if value is not None}


def _change(file: Path, raised: tuple[str, ...], kept: Mapping[str, Any]) -> None:
    """Under a lock of its own: a refusal is counted while another run holds that of the folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "r+b", buffering=0) as counters:
        fcntl.flock(counters, fcntl.LOCK_EX)
        found = _parsed(counters.read())
        changed = found | {name: int(found.get(name, 0)) + 1 for name in raised}
        changed |= {name: {**found.get(name, {}), **facts} for name, facts in kept.items()}
        counters.seek(0)
        counters.write(json.dumps(changed, indent=2).encode() + b"\n")
        counters.truncate()


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        name: value for name, value in found.items() if isinstance(value, int if name in COUNTED else dict)
    }
