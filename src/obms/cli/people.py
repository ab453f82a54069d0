"""`obms users`: who may do what, from the command line; each act is recorded as the command's."""

# Imports stand in the commands that need them, so that `--help` answers at once.

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from obms.cli.common import AsJson, opened_server
from obms.cli.output import show

if TYPE_CHECKING:
    from obms.badges.desk import Desk

app = typer.Typer(no_args_is_help=True)
keys = typer.Typer(no_args_is_help=True)
app.add_typer(keys, name="api-key", help="API keys of users.")

User = Annotated[str, typer.Argument(help="An id, a username or an e-mail address.")]
IssuerId = Annotated[str | None, typer.Option("--issuer", help="The id of the issuer; none for `admin`.")]
PasswordInput = Annotated[
    bool, typer.Option("--password", help="Read a password: asked for, or the first line of standard input.")
]


@contextmanager
def _desk() -> "Iterator[Desk]":
    """The users of this server, and the one who changes them."""
    from obms.badges.desk import Desk

    with opened_server() as server:
        yield Desk(engine=server.database.engine, site=server.site, keep=server.keep)


@app.command("add")
def add(
    username: Annotated[str, typer.Argument(help="Letters, digits, and `._-`.")],
    email: Annotated[str, typer.Argument(help="The e-mail address.")],
    *,
    admin: Annotated[bool, typer.Option("--admin", help="With the role that may do everything.")] = False,
    password: PasswordInput = False,
    as_json: AsJson = False,
) -> None:
    """A new user, with API keys alone or with a password too.

    Example: obms users add mary mary@example.org --password
    """
    text = _read_password() if password else None
    with _desk() as desk:
        user = desk.add(username, email, admin=admin, password=text)
    show(user, _line(user), as_json=as_json)


@app.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """Every user with roles.

    Example: obms users list
    """
    with _desk() as desk:
        users = desk.everyone()
    show(users, "\n".join(map(_line, users)) or "no users", as_json=as_json)


@app.command("disable")
def disable(user: User, *, as_json: AsJson = False) -> None:
    """Close an account: no password, login or API key of it opens anything; a restore keeps it closed.

    Example: obms users disable mary
    """
    with _desk() as desk:
        found = desk.set_active(user, active=False)
    show(found, _line(found), as_json=as_json)


@app.command("enable")
def enable(user: User, *, as_json: AsJson = False) -> None:
    """Open a closed account again.

    Example: obms users enable mary
    """
    with _desk() as desk:
        found = desk.set_active(user, active=True)
    show(found, _line(found), as_json=as_json)


@app.command("password")
def password(user: User, *, as_json: AsJson = False) -> None:
    """Set a new password: asked for, or the first line of standard input; every login of the user ends.

    Example: obms users password mary
    """
    text = _read_password()
    with _desk() as desk:
        found = desk.set_password(user, text)
    show(found, f"{found['username']}: the password is set", as_json=as_json)


@app.command("give")
def give(
    user: User,
    role: Annotated[str, typer.Argument(help="owner, editor or staff at an issuer, or admin.")],
    *,
    issuer: IssuerId = None,
    as_json: AsJson = False,
) -> None:
    """Give a role, in place of the one there was.

    Example: obms users give mary editor --issuer 6f0c0f0e-6a52-4a8e-9f6c-0d6d0a5a7e11
    """
    with _desk() as desk:
        found = desk.give(user, role, issuer)
    show(found, _line(found), as_json=as_json)


@app.command("take")
def take(user: User, *, issuer: IssuerId = None, as_json: AsJson = False) -> None:
    """Take the role at an issuer, or without one that of admin; a restore does not give it back.

    Example: obms users take mary --issuer 6f0c0f0e-6a52-4a8e-9f6c-0d6d0a5a7e11
    """
    with _desk() as desk:
        found = desk.take(user, issuer)
    show(found, _line(found), as_json=as_json)


@keys.command("add")
def add_key(
    user: User,
    description: Annotated[str, typer.Argument(help="What it is for.")],
    *,
    expires: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The day it ends, at midnight UTC."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A new API key, shown this once.

    Example: obms users api-key add mary "Nightly import" --expires 2027-01-01
    """
    with _desk() as desk:
        made = desk.add_key(user, description, expires)
    show(made, made["key"], as_json=as_json)


@keys.command("list")
def list_keys(user: User, *, as_json: AsJson = False) -> None:
    """The API keys of a user, without the keys themselves.

    Example: obms users api-key list mary
    """
    with _desk() as desk:
        found = desk.list_keys(user)
    show(found, "\n".join(map(_key_line, found)) or "no API keys", as_json=as_json)


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The id of the key.")], *, as_json: AsJson = False
) -> None:
    """Revoke an API key; a restore does not bring it back.

    Example: obms users api-key revoke 6f0c0f0e-6a52-4a8e-9f6c-0d6d0a5a7e11
    """
    with _desk() as desk:
        found = desk.revoke_key(key_id)
    show(found, _key_line(found), as_json=as_json)


def _read_password() -> str:
    """Never an argument: those stand in the list of processes and in the history of the shell."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\n")


def _line(user: dict[str, Any]) -> str:
    roles = [
        f"{role['role']} of {role['issuer']}" if "issuer" in role else role["role"] for role in user["roles"]
    ]
    state = "" if user["isActive"] else "  (closed)"
    return f"{user['id']}  {user['username']}  {user['email']}  {', '.join(roles) or 'no role'}{state}"


def _key_line(key: dict[str, Any]) -> str:
    ends = f"  until {key['expires_at']}" if key["expires_at"] else ""
    return f"{key['id']}  {key['description']}{ends}{'  (revoked)' if key['revoked_at'] else ''}"
