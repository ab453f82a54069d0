"""What is counted over all runs and processes, in a small file beside the backups."""

import fcntl
import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from obms import private
from obms.observe import Clock, Event, Hook

FILE = "counters.json"
RUNS, FAILURES, REFUSALS, UNDELIVERED = "runs", "failures", "refusals", "undelivered_notices"
STORE = "store "  # before the name of a store
JOURNAL = "journal "  # likewise: how much of each of its files the store holds
HERE = "backup folder"
NOTICE = "notice "  # before the name of a place that is told
COUNTED = (RUNS, FAILURES, REFUSALS, UNDELIVERED)
NEVER: Mapping[str, Any] = MappingProxyType(dict.fromkeys(COUNTED, 0))


def counting(folder: Path, clock: Clock, report: Hook) -> Hook:
    """The hook that counts, and keeps how long the last restore and the last drill took.

    What cannot be counted, for a full disk say, fails nothing; `report` is told of it.
    """

    def count(event: Event) -> None:
        raised, kept = _raised(event), _kept(event, clock())
        if not raised and not kept:
            return
        try:
            _change(folder / FILE, raised, kept)
        except OSError as error:
            facts = {"error": f"{folder / FILE}: {error.strerror or error}"}
            report(Event(name="counters.failed", ok=False, facts=facts))

    return count


def read_counters(folder: Path) -> Mapping[str, Any]:
    """What was counted: 0 of what never happened. What cannot be read is left out, and is never 0.

    Who adds up what is counted would take that for a new beginning.
    """
    try:
        return _parsed((folder / FILE).read_bytes())
    except FileNotFoundError:
        return NEVER if folder.is_dir() else {}
    except OSError:
        return {}


def complete_at(folder: Path, store: str) -> float:
    """When a run last found every proven backup in this store, as a timestamp; 0 if it never did."""
    told = read_counters(folder).get(f"{STORE}{store}", {})
    return float(told.get("complete_at") or 0)


def journal_held(counters: Mapping[str, Any], store: str) -> dict[str, int]:
    """How much of each file of the journal this store is known to hold, by name."""
    return _sizes(counters.get(f"{JOURNAL}{store}", {}).get("held"))


def _sizes(told: object) -> dict[str, int]:
    return (
        {name: size for name, size in told.items() if isinstance(size, int)} if isinstance(told, dict) else {}
    )


def last_reread(folder: Path, store: str | None) -> str | None:
    """The image that was read again last, in this store or here; None if none ever was."""
    told = read_counters(folder).get(_key(store), {}).get("reread")
    return told if isinstance(told, str) else None


def _key(store: object) -> str:
    return f"{STORE}{store}" if store else HERE


def _raised(event: Event) -> tuple[str, ...]:
    if event.name == "backup.run":
        return (RUNS,) if event.ok else (RUNS, FAILURES)
    if event.name == "notice.failed":
        return (UNDELIVERED,)
    return (REFUSALS,) if event.name == "backup.refused" else ()


def _kept(event: Event, now: datetime) -> dict[str, dict[str, Any]]:
    at, facts = now.timestamp(), event.facts
    match event.name:
        case "backup.copied":
            complete = {"complete_at": at} if event.ok else {}
            return {_key(facts.get("store")): {"ok": event.ok, **complete}}
        case "backup.rereading":
            return {_key(facts.get("store")): {"reread": facts.get("file"), "reread_at": at}}
        case "journal.shipped" | "journal.unshipped":
            held = {"held": facts["held"]} if event.ok else {}
            return {f"{JOURNAL}{facts['store']}": {"ok": event.ok, **held}}
        case "restore.done" | "drill.done":
            return {event.name.removesuffix(".done"): {"at": at, "ok": event.ok, **_spans(event)}}
        case "notice.failed" | "notice.delivered":
            return {f"{NOTICE}{facts.get('to')}": {"ok": event.ok, "at": at}}
    return {}


def _spans(event: Event) -> dict[str, object]:
    """How long it took, and what would have been lost; what was not found out stays as it was."""
    took = event.facts.get("rto_seconds", event.facts.get("seconds"))
    found = {"seconds": took, "rpo_seconds": event.facts.get("rpo_seconds")}
    return {name: value for name, value in found.items() if value is not None}


def _change(file: Path, raised: tuple[str, ...], kept: Mapping[str, Any]) -> None:
    """Under a lock of its own: a refusal is counted while another run holds that of the folder."""
    private.make_folder(file.parent)
    with os.fdopen(private.open_file(file, os.O_RDWR), "r+b", buffering=0) as counters:
        fcntl.flock(counters, fcntl.LOCK_EX)
        found = _parsed(counters.read())
        changed = found | {name: int(found.get(name, 0)) + 1 for name in raised}
        changed |= {name: _merged(found.get(name, {}), facts) for name, facts in kept.items()}
        counters.seek(0)
        counters.write(json.dumps(changed, indent=2).encode() + b"\n")
        counters.truncate()


def _merged(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What one process knows of the journal in a store another one may know better: files only grow."""
    known, held = _sizes(before.get("held")), after.get("held")
    if held is None:
        return {**before, **after}
    oldest = min(held, default="")  # what is older was dropped
    grown = {file: size for file, size in known.items() if file >= oldest}
    grown |= {file: max(size, known.get(file, 0)) for file, size in held.items()}
    return {**before, **after, "held": grown}


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    told = {**NEVER, **found}
    return {
        name: value for name, value in told.items() if isinstance(value, int if name in COUNTED else dict)
    }
