"""`obms keys`: the signing keys of the issuers, listed, rotated and retired."""

# Imports stand in the commands that need them, so that `--help` answers at once.

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from obms.cli.common import AsJson, opened_server
from obms.cli.output import plain, show

if TYPE_CHECKING:
    from obms.badges.keys import SigningKey

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
ISSUER_HELP = "Id of the issuer, its URL or its did:web."


class Algorithm(StrEnum):
    """What a key signs with."""

    ed25519 = "Ed25519"
    rsa = "RSA"


@app.command("list")
def list_keys(
    *,
    issuer: Annotated[str | None, typer.Option(help=ISSUER_HELP)] = None,
    as_json: AsJson = False,
) -> None:
    """List the signing keys, those in use first; retired ones are kept, so that their badges verify.

    Example: obms keys list
    """
    from obms.badges import keys

    with opened_server() as server, server.database.engine.connect() as connection:
        found = keys.keys_of(connection, _bare(issuer) if issuer else None)
    rows = [_as_json(key, server.site.base_url) for key in found]
    show(
        rows, "\n".join(map(_line, rows)) or "There is no key yet: each issuer gets its own.", as_json=as_json
    )


@app.command()
def rotate(
    issuers: Annotated[list[str] | None, typer.Argument(help=ISSUER_HELP)] = None,
    *,
    everyone: Annotated[bool, typer.Option("--all", help="Every issuer.")] = False,
    algorithm: Annotated[Algorithm | None, typer.Option(help="Only the keys of this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Give issuers new signing keys; the ones in use are retired, and their badges go on to verify.

    Example: obms keys rotate --all
    """
    import sqlalchemy as sa

    from obms.badges import access, keys
    from obms.badges.profiles import find_issuer
    from obms.databases import writing
    from obms.schema import issuers as issuer_table

    if bool(issuers) == everyone:
        raise typer.BadParameter("name issuers, or --all")
    chosen: tuple[Any, ...] = (algorithm.value,) if algorithm else keys.ALGORITHMS
    actor = access.Actor(id="obms keys rotate", is_admin=True)
    made = []
    with opened_server() as server, writing(server.database.engine) as connection:
        everybody = connection.execute(sa.select(issuer_table.c.id).order_by("id")).scalars().all()
        for id in everybody if everyone else map(_bare, issuers or []):
            find_issuer(connection, id)
            made += [keys.rotate(connection, server.site, id, each) for each in chosen]
        for key in made:
            access.record(connection, server.site, actor, "key.rotate", key.id, {"issuer": key.issuer_id})
    rows = [_as_json(key, server.site.base_url) for key in made]
    show(rows, "\n".join(map(_line, rows)), as_json=as_json)


@app.command()
def retire(
    key: Annotated[str, typer.Argument(help="Id of the key, or its did:web URL.")], *, as_json: AsJson = False
) -> None:
    """Sign with a key no more; its badges go on to verify, and who signs next gets another.

    Example: obms keys retire 5f0f4a52-3b36-4a0e-9f3a-2b8f6a1f9b11
    """
    from obms.badges import access, keys
    from obms.databases import writing

    actor = access.Actor(id="obms keys retire", is_admin=True)
    with opened_server() as server, writing(server.database.engine) as connection:
        retired, changed = keys.retire(connection, server.site, key.rpartition("#")[2])
        if changed:
            access.record(connection, server.site, actor, "key.retire", retired.id)
    row = _as_json(retired, server.site.base_url)
    show(row, _line(row), as_json=as_json)


@app.command()
def adopt(
    issuer: Annotated[str, typer.Argument(help=ISSUER_HELP)],
    key: Annotated[str, typer.Argument(help="Id of the key, a UUID that SIGNERS knows.")],
    public: Annotated[Path, typer.Argument(help="File of its public part, as PEM.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Sign with a key whose private part is kept elsewhere (SIGNERS); the one in use is retired.

    Example: obms keys adopt ISSUER 5f0f4a52-3b36-4a0e-9f3a-2b8f6a1f9b11 public.pem
    """
    from obms.badges import access, elsewhere
    from obms.badges.profiles import find_issuer
    from obms.databases import writing

    actor = access.Actor(id="obms keys adopt", is_admin=True)
    pem, id, issuer_id = _read(public), str(_uuid(key)), _bare(issuer)
    with opened_server() as server, writing(server.database.engine) as connection:
        find_issuer(connection, issuer_id)
        adopted = elsewhere.adopt(connection, server.site, issuer_id, id, pem)
        access.record(connection, server.site, actor, "key.adopt", id, {"issuer": issuer_id})
    row = _as_json(adopted, server.site.base_url)
    show(row, _line(row), as_json=as_json)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read as PEM: {error}") from error


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text} is no UUID") from error


def _bare(issuer: str) -> str:
    return issuer.rstrip("/").rpartition("/")[2].rpartition(":")[2]


def _as_json(key: "SigningKey", site_url: str) -> dict[str, Any]:
    return {
        "id": key.id,
        "issuer": key.issuer_id,
        "algorithm": key.algorithm,
        "signs": key.jose_name,
        "method": key.method(site_url),
        "created_at": plain(key.created_at),
        "retired_at": plain(key.retired_at),
    }


def _line(row: dict[str, Any]) -> str:
    state = f"retired {row['retired_at']}" if row["retired_at"] else "in use"
    return f"{row['id']}  {row['algorithm']:<7}  issuer {row['issuer']}  {state}"
