"""`obms restore --only`: single rows brought back, and what is printed of it."""

# Imports stand where they are needed, so that `--help` answers at once.

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from obms.cli.output import notable, plain, show, warn
from obms.errors import NeedsConfirmation

if TYPE_CHECKING:
    from obms.backup import Backups
    from obms.backup.trust import Accepted

Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help="`issuer=ID` or `credential=ID`: bring back only these, into the live database. Repeatable.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="With --only: put the older row over one that is there and differs."),
]

WORDS = {
    "inserted": "inserted",
    "overwritten": "overwritten",
    "equal": "there already",
    "kept": "there, newer, and kept",
}


def restore_only(
    backups: "Backups",
    name: str,
    only: Sequence[str],
    *,
    overwrite: bool,
    dry_run: bool,
    yes: bool,
    accepted: "Accepted",
    as_json: bool,
) -> None:
    from obms.backup.pick import pick

    if not (dry_run or yes):
        raise NeedsConfirmation(what="write into the live database")
    done = plain(pick(backups, name, only, overwrite=overwrite, dry_run=dry_run, accepted=accepted))
    show(done, "\n".join(_lines(done)), as_json=as_json)
    warn(done)


def _lines(done: Mapping[str, Any]) -> Iterator[str]:
    did = "it would bring" if done["dry_run"] else "brought"
    yield f"{did} back from {done['id']}: {', '.join(done['wanted'])}"
    for what, words in WORDS.items():
        if done[what]:
            yield f"  {words}: {', '.join(f'{rows} {table}' for table, rows in done[what].items())}"
    yield from (f"  kept: {note}" for note in done["notes"])
    if safety := done["safety_backup"]:
        yield f"before it: {safety} (`obms restore {safety} --yes` brings all of that back)"
    yield from notable(done["checks"])
