"""`obms backup rekey`: existing backups encrypted to other public keys."""

# Imports stand in the command that needs them, so that `--help` answers at once.

from typing import Annotated

import typer

from obms.cli.common import AsJson, load_settings, make_backups
from obms.cli.output import show

PUBLIC_KEY = "A public key (`age1...`)"


def rekey(
    names: Annotated[list[str] | None, typer.Argument(help="Ids or file names.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every backup in BACKUP_DIR.")] = False,
    add: Annotated[list[str] | None, typer.Option(help=f"{PUBLIC_KEY} more than each of them has.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help=f"{PUBLIC_KEY} of theirs to leave out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Encrypt existing backups anew, to BACKUP_AGE_RECIPIENTS; it needs a private key of theirs.

    With --add or --remove each keeps its own recipients, more and less; one that has none gets
    BACKUP_AGE_RECIPIENTS first.

    Example: obms backup rekey --all
    """
    from obms.backup.rekey import rekey as encrypt_anew

    if bool(names) == everything:
        raise typer.BadParameter("name backups, or --all")
    backups = make_backups(load_settings())
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
    failed = next((one.error for one in done if one.error), None)
    if failed is not None:
        raise failed


def _line(row: dict[str, str | bool | None]) -> str:
    said = row["error"] or ("encrypted anew" if row["changed"] else "as it was")
    return f"{row['file']}  {said}"
