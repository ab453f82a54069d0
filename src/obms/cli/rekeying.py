"""`obms backup rekey`: existing backups encrypted to other public keys."""

# Imports stand in the command that needs them, so that `--help` answers at once.

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from obms.cli.common import AsJson, StoreUrl, load_settings, make_backups
from obms.cli.output import plain, show

if TYPE_CHECKING:
    from obms.backup.rekey import Left, Rekeyed

PUBLIC_KEY = "A public key (`age1...`)"


def rekey(
    names: Annotated[list[str] | None, typer.Argument(help="Ids or file names.")] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Every backup in BACKUP_DIR, or in the store.")
    ] = False,
    add: Annotated[list[str] | None, typer.Option(help=f"{PUBLIC_KEY} more than each of them has.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help=f"{PUBLIC_KEY} of theirs to leave out.")] = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Encrypt existing backups anew, to BACKUP_AGE_RECIPIENTS; it needs a private key of theirs.

    With --add or --remove each keeps its own recipients, more and less; one that has none gets
    BACKUP_AGE_RECIPIENTS first. What the stores hold stays, and is told. With --store alone, after that,
    the new ones go there, and the old ones are removed there. With --store and --all or names that is done
    to what the store holds, one after another: what only it holds is brought to BACKUP_DIR for as long.

    Example: obms backup rekey --all
    """
    from obms.backup.bringing import rekey_in_store
    from obms.backup.rekey import left_in_stores, rekey_store
    from obms.backup.rekey import rekey as encrypt_anew

    backups = make_backups(load_settings())
    place = backups.stores.at(store) if store is not None else None
    added, removed = add or [], remove or []
    if place is not None and not (names or everything or added or removed):
        gone = rekey_store(backups, place)
        text = "\n".join(f"{file}  removed: a new one stands there for it" for file in gone)
        show(list(gone), text or "It holds no old ones of those in BACKUP_DIR.", as_json=as_json)
        return
    if bool(names) == everything:
        raise typer.BadParameter("name backups, or --all")
    if place is not None:
        done = rekey_in_store(backups, place, names or [], add=added, remove=removed)
    else:
        done = encrypt_anew(backups, names or [], add=added, remove=removed)
    rows = [plain(one) | {"error": str(one.error) if one.error else None} for one in done]
    show(rows, "\n".join(map(_line, done)) or "There are none to encrypt anew.", as_json=as_json)
    ids = None if everything else {one.id for one in done}
    changes = [*(f"--add {key}" for key in added), *(f"--remove {key}" for key in removed)]
    asked = " ".join([*([one.id for one in done] if names else ["--all"]), *changes])
    for left in left_in_stores(backups, ids, add=added, remove=removed):
        typer.echo(_left_line(left, asked), err=True)
    failed = next((one.error for one in done if one.error), None)
    if failed is not None:
        raise failed


def _line(one: "Rekeyed") -> str:
    done = {"brought": one.brought, "encrypted anew": one.changed, "replaced there": bool(one.replaced)}
    said = one.error or ", ".join(word for word, is_so in done.items() if is_so) or "as it was"
    return f"{one.file}  {said}"


def _left_line(left: "Left", asked: str) -> str:
    if left.error is not None:
        return f"{left.store}: what it holds is not known now ({left.error})"
    return (
        f"{left.store} still holds {len(left.files)} for the old keys: {', '.join(left.files)}\n"
        f"`obms backup rekey --store {shlex.quote(left.store)} {asked}` sends their new forms there, and "
        "removes the old ones; what only it holds is brought here for that."
    )
