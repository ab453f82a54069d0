"""What the commands print: JSON for programs, lines for people."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from obms.figures import size

if TYPE_CHECKING:
    from obms.backup.catalog import Backup
    from obms.backup.copies import Copy
    from obms.backup.manifest import Check
    from obms.backup.prune import Outlook, Retained
    from obms.backup.run import Run


def show(result: Any, text: str, *, as_json: bool) -> None:
    """Print the one or the other."""
    typer.echo(json.dumps(plain(result), ensure_ascii=False) if as_json else text)


def plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def run_as_json(made: "Run") -> dict[str, Any]:
    manifest, verdict = made.manifest, made.verdict
    return {
        "id": manifest.id,
        "file": manifest.file,
        "database": manifest.database,
        "created_at": plain(manifest.started_at),
        "bytes": manifest.bytes,
        "raw_bytes": manifest.raw_bytes,
        "sha256": manifest.sha256,
        "rows": plain(manifest.rows),
        "proven": made.proven,
        "proof": {
            "level": verdict.level if verdict else None,
            "checks": plain(verdict.checks) if verdict else [],
        },
        "copies": plain(made.copies),
        "removed": plain(made.retained.removed),
        "held": made.retained.held,
        "seconds": made.seconds,
        "stages": plain(made.stages),
        "journal_problem": made.journal_problem,
    }


def run_as_text(made: "Run") -> str:
    sizes = f"{size(made.manifest.bytes)} of {size(made.manifest.raw_bytes)}"
    first = f"{made.manifest.file}  {sizes}  {sum(made.manifest.rows.values())} rows  {made.seconds:.1f} s"
    if made.journal_problem:
        first += f"\nthe journal of revocations is behind: {made.journal_problem}"
    if made.verdict is None:
        return f"{first}\nnot proven: it does not count until `obms backup verify {made.manifest.id}`"
    lines = [first, checks_as_text(made.verdict.checks), *map(_copy_as_text, made.copies)]
    lines += [*retained_as_lines(made.retained), "proven" if made.proven else "NOT PROVEN"]
    return "\n".join(lines)


def _copy_as_text(copy: "Copy") -> str:
    read = f"{len(copy.copied)} copied, {size(copy.bytes)}, read back whole" if copy.copied else None
    told = copy.error or read or "it lacked nothing"
    lines = [f"  {'ok ' if copy.ok else 'BAD'}  {copy.store}: {told}"]
    lines += [f"       removed {id}" for id in copy.removed]
    if unremoved := copy.removal_error or copy.held:
        lines.append(f"       NOT REMOVED what is too old there: {unremoved}")
    return "\n".join(lines)


def retained_as_lines(retained: "Retained") -> list[str]:
    """What was removed; or why nothing was, and how to go on."""
    if retained.held:
        return [f"NOTHING IS REMOVED: {retained.held}. If that is right: `obms backup prune --yes`"]
    return [f"removed {id}" for id in retained.removed]


def outlook_as_json(outlook: "Outlook") -> dict[str, Any]:
    gone = {backup.file for backup in outlook.plan.remove}
    backups = [
        backup_as_json(backup)
        | {
            "verdict": "remove" if backup.file in gone else "keep",
            "reason": outlook.plan.reasons[backup.file],
        }
        for backup in reversed(outlook.shelf.backups)
    ]
    return {"backups": backups, "held": outlook.held}


def outlook_as_text(outlook: Mapping[str, Any]) -> str:
    lines = [f"{row['id']}  {row['state']:<9} {row['reason']}" for row in outlook["backups"]]
    return "\n".join(lines or ["There is no backup yet."])


def checks_as_text(checks: "Iterable[Check]") -> str:
    return "\n".join(f"  {'ok ' if check.ok else 'BAD'}  {check.name}: {check.detail}" for check in checks)


def backup_as_json(backup: "Backup") -> dict[str, Any]:
    return {
        "id": backup.id,
        "file": backup.file,
        "database": backup.database,
        "created_at": plain(backup.created_at),
        "bytes": backup.manifest.bytes if backup.manifest else None,
        "proven": backup.proven,
        "proven_at": plain(backup.verdict.judged_at) if backup.verdict and backup.proven else None,
        "state": backup.state,
        "signature": backup.signature,
        "pinned": backup.pin is not None,
    }


SIGNATURES = {"none": "not signed", "other": "signed with another SECRET_KEY"}


def backup_as_text(row: Mapping[str, Any]) -> str:
    """One line of the list."""
    notes = [row["proven_at"] or "", SIGNATURES.get(row["signature"], "")]
    notes += ["pinned"] if row["pinned"] else []
    line = f"{row['id']}  {row['state']:<9} {size(row['bytes']):>9}  {'  '.join(filter(None, notes))}"
    return line.rstrip()


def plan_as_text(plan: Mapping[str, Any]) -> str:
    backup = sum(plan["rows"].values()) if plan["rows"] else "unknown (it has no manifest to compare it with)"
    live = sum((plan["live_rows"] or {}).values())
    lines = [f"{plan['file']} ({plan['database']}, {'proven' if plan['proven'] else 'not proven'})"]
    lines += [f"rows: {backup} in the backup, {live} in the live database", "it would:"]
    return "\n".join([*lines, *(f"  {number}. {step}" for number, step in enumerate(plan["steps"], 1))])


def restored_as_text(done: Mapping[str, Any]) -> str:
    lines = [f"restored {done['id']} in {done['seconds']:.1f} s, {sum(done['rows'].values())} rows"]
    journal = f" ({done['from_journal']} from the journal)" if done["from_journal"] else ""
    lines.append(f"later revocations kept: {done['revocations_kept']}{journal}")
    if done["safety_backup"]:
        lines.append(f"before it: {done['safety_backup']} (`obms restore --undo` brings it back)")
    lines += notable(done["checks"])
    if done["set_aside"]:
        lines.append(f"what stood there, and is no readable database of this server: {done['set_aside']}")
    return "\n".join(lines)


def notable(checks: Iterable[Mapping[str, Any]]) -> list[str]:
    """What people must know of the checks: that there was no manifest, and which of them say no."""
    lines = [check["detail"] for check in checks if check["name"] == "made by hand"]
    return lines + [f"CHECK {check['name']}: {check['detail']}" for check in checks if not check["ok"]]


MISSED = "Revocations may be missing: compare with what you know of them (`obms backup diff {} live`)."
GONE = "Rows of the backup are not there: `obms restore --undo` brings back what was there before."


def warn(done: Mapping[str, Any]) -> None:
    """On standard error: it was brought back, and yet somebody must look, and how."""
    for line in _warnings_of(done):
        typer.echo(line, err=True)


def _warnings_of(done: Mapping[str, Any]) -> Iterator[str]:
    before = done["safety_backup"] or done["id"]
    for check in done["checks"]:
        if not check["ok"]:
            mend = GONE if check["name"] == "live" else MISSED.format(before)
            yield f"obms: warning: {check['name']}: {check['detail'].rstrip('.')}. {mend}"


def move_plan_as_text(steps: Iterable[str]) -> str:
    return "\n".join(["it would:", *(f"  {number}. {step}" for number, step in enumerate(steps, 1))])


def moved_as_text(done: Mapping[str, Any], settings: Mapping[str, str]) -> str:
    lines = [f"moved to {done['database']} in {done['seconds']:.1f} s, {sum(done['rows'].values())} rows"]
    again = ", and what had changed was copied again" if done["second_copy"] else ""
    lines.append(f"every table is equal by its digest; writers waited {done['fence_seconds']:.1f} s{again}")
    lines.append(f"the old database refuses writers now; the backup of before: {done['id']}")
    if done["set_aside"]:
        lines.append(f"what stood there: {done['set_aside']}")
    lines.append("write this into .env, and restart the API:")
    return "\n".join([*lines, *(f"{name}={value}" for name, value in settings.items())])
