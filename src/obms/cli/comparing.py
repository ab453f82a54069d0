"""`obms backup diff`: what happened between two backups, as lines or as JSON."""

# Imports stand in the commands that need them, so that `--help` answers at once.

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from obms.cli.common import AcceptOtherKey, AcceptUnsigned, AsJson, load_settings, make_backups
from obms.cli.output import plain, show

ON_SCREEN, IN_JSON = 10, 1000
SIDE_HELP = (
    "An id, a file name, a path to a file, `latest`, `live`; of a store: its URL, `/`, and one of these."
)
MARKS = {"added": "+", "changed": "~", "deleted": "-"}


def diff(
    first: Annotated[str, typer.Argument(help=SIDE_HELP)],
    second: Annotated[str, typer.Argument(help="The same, or `live`: the database as it is now.")] = "live",
    *,
    limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=100_000,
            help=f"Rows named per table and kind of change: {ON_SCREEN}, in JSON {IN_JSON}; all are counted.",
        ),
    ] = None,
    accept_other_key: AcceptOtherKey = False,
    accept_unsigned: AcceptUnsigned = False,
    as_json: AsJson = False,
) -> None:
    """Show what was issued, revoked, changed and deleted from one backup to another, or until now.

    Both are loaded into scratch databases; the live database is only read. Exit 0 also where they differ.

    Example: obms backup diff latest live
    """
    from obms.backup.diff import diff as compare
    from obms.backup.trust import Accepted

    accepted = Accepted(not_signed=accept_unsigned, other_key=accept_other_key)
    most = limit if limit is not None else IN_JSON if as_json else ON_SCREEN
    found = plain(compare(make_backups(load_settings()), first, second, limit=most, accepted=accepted))
    show(found, "\n".join(_lines(found)), as_json=as_json)


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{_side(found['first'])} -> {_side(found['second'])}"
    if found["first"]["revision"] != found["second"]["revision"]:
        yield f"schema {found['first']['revision']} -> {found['second']['revision']}"
    if found["equal"]:
        yield "equal: no row differs"
        return
    if found["words"]:
        yield ", ".join(f"{count} {word}" for word, count in found["words"].items())
    for table in found["tables"]:
        yield from _table(table)


def _side(side: Mapping[str, Any]) -> str:
    return f"{side['id']} ({side['database']})"


def _table(table: Mapping[str, Any]) -> Iterator[str]:
    counts = ", ".join(f"{table[kind]} {kind}" for kind in MARKS if table[kind])
    rows = " -> ".join(
        "none" if table[name] is None else str(table[name]) for name in ("rows_before", "rows_after")
    )
    yield f"{table['table']}: {rows} rows; {counts or 'only one of the two has this table'}"
    for change in table["changes"]:
        key = " ".join(str(part) for part in change["key"].values())
        columns = f" ({', '.join(change['columns'])})" if change["columns"] else ""
        word = f"  {change['word']}" if change["word"] else ""
        yield f"  {MARKS[change['kind']]} {key}{columns}{word}"
    if table["left_out"]:
        yield f"  ... and {table['left_out']} more"
