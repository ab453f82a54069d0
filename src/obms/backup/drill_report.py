"""The report of a drill: a signed document, and a page that says the same to a person."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from html import escape
from pathlib import Path

from obms.backup import Backups
from obms.backup.catalog import STAMP
from obms.backup.manifest import FORMAT, Check, Document
from obms.backup.storage import Folder
from obms.errors import BackupDamaged, BackupNotFound

FOLDER = "drills"
PREFIX, END, PAGE_END = "drill_", ".json", ".html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill(Document):
    """How a drill went. What it did not come to is None or empty. Times are in UTC.

    `rpo_seconds` is what a loss of the machine at its start would have cost: how much later than the
    backup the newest write in the live database is, `newest_live`; where none tells that, the age of the
    backup. `rto_seconds` is from asking the store to the verified application.
    """

    id: str
    file: str
    store: str
    ok: bool
    exit_code: int
    error: str
    hint: str
    rpo_seconds: float | None
    rto_seconds: float | None
    backup_of: str
    newest_data: str
    checks: tuple[Check, ...]
    stages: Mapping[str, float]
    rows: Mapping[str, int]
    bytes: int
    database: str
    app_version: str
    started_at: datetime
    ended_at: datetime
    newest_live: str = ""
    signed_by: str = ""
    signature: str = ""
    format: int = FORMAT


def write_report(backups: Backups, report: Drill) -> str:
    """Keep it with its page, whose path is returned; needs the lock."""
    folder = Folder(backups.folder / FOLDER)
    written = report.to_bytes()
    name = _free_name(folder, report.started_at)
    page = _page(report, f"{name}{END}", sha256(written).hexdigest())
    folder.put(name + PAGE_END, iter((page.encode(),)))
    folder.put(name + END, iter((written,)))
    return str(folder.path / (name + PAGE_END))


def last_drill(backup_folder: Path, trusted: str | None) -> Drill | None:
    """The newest report that is whole and bears our signature; without SECRET_KEY, one that bears none."""
    return next((one for _, one in _read_all(backup_folder, trusted) if one), None)


def disbelieved(backup_folder: Path, trusted: str | None) -> Iterator[str]:
    """The file names of reports that are newer than `last_drill`, and are damaged or not signed by us."""
    for name, one in _read_all(backup_folder, trusted):
        if one:
            return
        yield name


def last_drill_at(backup_folder: Path, trusted: str | None) -> datetime | None:
    """When the last drill began, well or not."""
    found = last_drill(backup_folder, trusted)
    return found.started_at if found else None


def _read_all(backup_folder: Path, trusted: str | None) -> Iterator[tuple[str, Drill | None]]:
    """Each report, newest first; None for one that is not believed."""
    folder = Folder(backup_folder / FOLDER)
    wanted = "ours" if trusted else "none"
    for name in reversed(list(folder.names(PREFIX))):
        if name.endswith(END):
            found = _read(folder, name)
            yield name, found if found and found.signature_seen_by(trusted) == wanted else None


def _read(folder: Folder, name: str) -> Drill | None:
    try:
        return Drill.from_bytes(name, b"".join(folder.get(name)))
    except (BackupDamaged, BackupNotFound):
        return None


def _free_name(folder: Folder, moment: datetime) -> str:
    taken = set(folder.names(PREFIX))
    while (name := f"{PREFIX}{moment.strftime(STAMP)}") + END in taken:
        moment += timedelta(seconds=1)
    return name


STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%;margin:1rem 0}
td,th{border:1px solid #ccc;padding:.3rem .6rem;text-align:left}
.ok{color:#17692f}.bad{color:#a8071a}td{overflow-wrap:anywhere;vertical-align:top}
"""


def _page(report: Drill, document: str, digest: str) -> str:
    word = "passed" if report.ok else "FAILED"
    title = f"Recovery drill of {report.started_at:%Y-%m-%d %H:%M} UTC: {word}"
    lines = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>',
        f'<h1 class="{"ok" if report.ok else "bad"}">{title}</h1>',
        *([f"<p>{escape(report.error)} {escape(report.hint)}</p>"] if report.error else []),
        _table(("what", "found"), _figures(report)),
        "<h2>What was looked at</h2>",
        _table(("", "check", "figures"), ((_mark(one), one.name, one.detail) for one in report.checks)),
        "<h2>How long it took</h2>",
        _table(("stage", "seconds"), ((name, f"{took:.3f}") for name, took in report.stages.items())),
        "<h2>What was restored</h2>",
        _table(("table", "rows"), ((name, str(count)) for name, count in report.rows.items())),
        f"<p>The same, signed: {document}, SHA-256 {digest}.</p></html>",
    )
    return "\n".join(lines) + "\n"


def _figures(report: Drill) -> Iterator[tuple[str, str]]:
    yield "backup", report.id or "none was found"
    yield "taken from", report.store
    yield "moment of the backup", report.backup_of or "unknown"
    yield "newest write in it", report.newest_data or "unknown"
    yield "newest write in the live database", report.newest_live or "unknown: there is none to tell it"
    yield "would have been lost (RPO)", seconds_as_text(report.rpo_seconds)
    yield "recovered after (RTO)", seconds_as_text(report.rto_seconds)
    yield "restored into", f"a scratch {report.database}, version {report.app_version} of the program"


def seconds_as_text(seconds: float | None) -> str:
    """A span of time as a person says it."""
    if seconds is None:
        return "unknown"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    return str(timedelta(seconds=round(seconds)))


def _mark(check: Check) -> str:
    return "ok" if check.ok else "BAD"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
