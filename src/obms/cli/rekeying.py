"""`obms backup rekey`: existing backups encrypted to other public keys."""

# Imports stand in the command that needs them, so that `--help` answers at once.

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from obms.cli.common import AsJson, StoreUrl, load_settings, make_backups
from obms.cli.output import show

if TYPE_CHECKING:
    from obms.backup.rekey import Left

PUBLIC_KEY = "A public key (`age1...`)"


def rekey(
    names: Annotated[list[str] | None, typer.Argument(help="Ids or file names.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every backup in BACKUP_DIR.")] = False,
    add: Annotated[list[str] | None, typer.Option(help=f"{PUBLIC_KEY} more than each of them has.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help=f"{PUBLIC_KEY} of theirs to leave out.")] = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Encrypt existing backups anew, to BACKUP_AGE_RECIPIENTS; it needs a private key of theirs.

    With --add or --remove each keeps its own recipients, more and less; one that has none gets
    BACKUP_AGE_RECIPIENTS first. What the stores hold stays, and is told: with --store, after that, the
    new ones go there, and the old ones are removed there.

    Example: obms backup rekey --all
    """
    from obms.backup.rekey import left_in_stores, rekey_store
    from obms.backup.rekey import rekey as encrypt_anew

    backups = make_backups(load_settings())
    if store is not None:
        if names or add or remove:
            raise typer.BadParameter("--store takes what BACKUP_DIR has: encrypt that anew first")
        gone = rekey_store(backups, backups.stores.at(store))
        text = "\n".join(f"{file}  removed: a new one stands there for it" for file in gone)
        show(list(gone), text or "It holds no old ones of those in BACKUP_DIR.", as_json=as_json)
        return
    if bool(names) == everything:
        raise typer.BadParameter("name backups, or --all")
    done = encrypt_anew(backups, names or [], add=add or [], remove=remove or [])
    rows = [
        {
            "id": one.id,
            "file": one.file,
            "changed": one.changed,
            "error": str(one.error) if one.error else None,
        }
        for one in done
    ]
    show(rows, "\n".join(_line(row) for row in rows), as_json=as_json)
    ids = None if everything else {one.id for one in done}
    for left in left_in_stores(backups, ids, add=add or [], remove=remove or []):
        typer.echo(_left_line(left), err=True)
    failed = next((one.error for one in done if one.error), None)
    if failed is not None:
        raise failed


def _line(row: dict[str, str | bool | None]) -> str:
    said = row["error"] or ("encrypted anew" if row["changed"] else "as it was")
    return f"{row['file']}  {said}"


def _left_line(left: "Left") -> str:
    if left.error is not None:
        return f"{left.store}: what it holds is not known now ({left.error})"
    return (
        f"{left.store} still holds {len(left.files)} for the old keys: {', '.join(left.files)}\n"
        f"`obms backup rekey --store {shlex.quote(left.store)}` sends there what BACKUP_DIR has in its new "
        "form, and removes the old ones of that."
    )
