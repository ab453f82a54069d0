"""`obms backup prune`, `pin` and `unpin`: what stays and what goes."""

# Imports stand in the commands that need them, so that `--help` answers at once.

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from obms.cli.common import AsJson, StoreUrl, load_settings, make_backups
from obms.cli.output import backup_as_json, outlook_as_json, outlook_as_text, show
from obms.errors import NeedsConfirmation

if TYPE_CHECKING:
    from obms.backup.prune import Outlook

app = typer.Typer(rich_markup_mode=None)

Here = Annotated[str, typer.Argument(help="An id, a file name, or `latest`; its path, in BACKUP_DIR.")]


@app.command("prune")
def prune(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go, and why; remove none.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking, also what is held back.")] = False,
    store: StoreUrl = None,
    also_uncopied: Annotated[
        bool, typer.Option("--also-uncopied", help="Remove also what a store has no copy of yet.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove the backups that the policy does not keep, as a proven run does at its end.

    In a store it is the policy of its URL. It also releases what is held back, when a backup was
    suspiciously small or the clock had leaped.

    Example: obms backup prune --dry-run
    """
    from obms.backup import by_hand

    backups = make_backups(load_settings())
    place = backups.stores.at(store) if store else None
    outlook = by_hand.foresee(backups, place, also_uncopied=also_uncopied)
    result: dict[str, Any] = outlook_as_json(outlook) | {"removed": []}
    if dry_run:
        held = f"\nheld back: {outlook.held}" if outlook.held else ""
        show(result, outlook_as_text(result) + held, as_json=as_json)
        return
    if not yes and (outlook.held or outlook.plan.remove):
        _ask(outlook)
    done = by_hand.prune(backups, place, also_uncopied=also_uncopied)
    result |= {"removed": list(done.removed), "refused": done.held}
    text = [f"accepted: {outlook.held}"] if outlook.held else []
    text += [f"removed {id}" for id in done.removed]
    text += [f"NOT REMOVED: {done.held}"] if done.held else []
    show(result, "\n".join(text) or "nothing is to be removed", as_json=as_json)


def _ask(outlook: "Outlook") -> None:
    words = [f"remove {len(outlook.plan.remove)} backups"] if outlook.plan.remove else []
    words += [f"accept that {outlook.held}"] if outlook.held else []
    what = " and ".join(words)
    if not sys.stdin.isatty() or not typer.confirm(f"Really {what}?", err=True):
        raise NeedsConfirmation(what=what)


@app.command("pin")
def pin(
    name: Here,
    *,
    reason: Annotated[str, typer.Option(help="Why, for those who come later.")] = "",
    as_json: AsJson = False,
) -> None:
    """Keep a backup, whatever the policy says, until it is unpinned.

    Example: obms backup pin latest --reason "before the move"
    """
    from obms.backup.by_hand import pin as keep

    shown = backup_as_json(keep(make_backups(load_settings()), name, reason))
    show(shown, f"{shown['id']} is pinned", as_json=as_json)


@app.command("unpin")
def unpin(name: Here, *, as_json: AsJson = False) -> None:
    """Leave a pinned backup to the policy again.

    Example: obms backup unpin sqlite_backup_2026-11-22_00-00-00
    """
    from obms.backup.by_hand import unpin as release

    shown = backup_as_json(release(make_backups(load_settings()), name))
    show(shown, f"{shown['id']} is not pinned", as_json=as_json)
