"""The command: arguments in, results and exit codes out; it decides nothing."""

# Imports stand in the commands that need them, so that `--help` answers at once.

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from functools import cache, partial
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from obms import __version__
from obms.cli import backups, people, retention, signing_keys
from obms.cli.beginning import init
from obms.cli.common import (
    NAME_HELP,
    AcceptOtherKey,
    AcceptUnsigned,
    AsJson,
    StoreUrl,
    load_settings,
    make_backups,
    make_onlooker,
    make_server,
    named,
    opened_server,
)
from obms.cli.comparing import diff
from obms.cli.deployed import verify_deployment
from obms.cli.looking import doctor, drill, status
from obms.cli.output import (
    move_plan_as_text,
    moved_as_text,
    plain,
    plan_as_text,
    restored_as_text,
    show,
    warn,
)
from obms.cli.picking import Only, Overwrite, restore_only
from obms.cli.rekeying import rekey
from obms.errors import NeedsConfirmation, ObmsError

HELP_COLUMNS = 110
INTERRUPTED, TERMINATED = 130, 143  # what a shell says of a program that SIGINT or SIGTERM ended

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": HELP_COLUMNS},
)
backups.app.add_typer(retention.app)
backups.app.command("rekey")(rekey)
app.command("init")(init)
app.command("status")(status)
app.command("doctor")(doctor)
app.command("drill")(drill)
app.command("verify-deployment")(verify_deployment)
backups.app.command("diff")(diff)
app.add_typer(backups.app, name="backup", help="Make, list and prove backups.")
app.add_typer(signing_keys.app, name="keys", help="List, rotate and retire signing keys.")
app.add_typer(people.app, name="users", help="Users, their roles and their API keys.")


class ProofKind(StrEnum):
    """How seeded badges are signed."""

    data_integrity = "data-integrity"
    jwt = "jwt"


def main() -> None:
    """Run the command, and turn each deliberate error into one line and its exit code."""
    signal.signal(signal.SIGTERM, _end)
    try:
        _command()()
    except ObmsError as error:
        sys.exit(_tell(error))
    except SystemExit as ended:
        if ended.code in (INTERRUPTED, TERMINATED):
            _leave(ended.code)
        raise


def _leave(code: int) -> None:
    """End at once where threads are left: what they wait for, a store that hangs, would hold up the end."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        with suppress(OSError):  # nobody reads it any more
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


@cache
def _command() -> TyperGroup:
    """All commands and their options, which take longer to make than many a command."""
    made = get_command(app)
    assert isinstance(made, TyperGroup)
    return made


def _end(_signal: int, _frame: object) -> NoReturn:
    """End as on an error, so that what was begun is taken back."""
    sys.exit(TERMINATED)


def _tell(error: ObmsError) -> int:
    typer.echo(" ".join(filter(None, (f"obms: {error}", error.hint, f"(exit {error.exit_code})"))), err=True)
    return error.exit_code


@app.callback(invoke_without_command=True)
def root(*, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Open Badges server whose database cannot be lost."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def serve(
    *,
    schedule: Annotated[
        bool, typer.Option(help="Keep the schedules; without, `obms backup schedule` does it elsewhere.")
    ] = True,
) -> None:
    """Serve the API, and keep BACKUP_SCHEDULE and DRILL_SCHEDULE (unless both are off).

    Where it keeps none it tells all the same when there is no fresh proven backup. A wrong setting
    of the backups ends it at once, whoever makes them: later, nobody would look.

    Example: PORT=3000 obms serve
    """
    from obms.app import check_notices, keeps_schedule, open_drill_schedule, open_hook, open_watch
    from obms.backup.schedule import guard
    from obms.web.serve import keep_looking, keep_running, serve_api

    settings = load_settings()
    check_notices(settings)
    open_drill_schedule(settings)
    make_onlooker(settings)
    make_server(settings)
    if schedule and keeps_schedule(settings):
        beside = partial(keep_running, notify=open_hook(settings, logged=True))
    else:
        everything = make_backups(settings, logged=True)
        look = partial(guard, everything, "schedule.look_failed", open_watch(settings, everything))
        beside = partial(keep_looking, look=look)
    serve_api(host=settings.host, port=settings.port, workers=settings.workers, beside=beside)


@app.command()
def migrate(*, as_json: AsJson = False) -> None:
    """Make the database if there is none, and bring it to this program's schema.

    Example: obms migrate
    """
    from obms import migrations
    from obms.app import open_database

    database = open_database(load_settings())
    database.create()
    found = migrations.migrate(database.engine)
    result = {"database": database.kind, "before": found, "now": migrations.newest()}
    show(result, f"{database.kind}: schema {found or 'empty'} -> {migrations.newest()}", as_json=as_json)


@app.command()
def seed(
    *,
    credentials: Annotated[int, typer.Option(min=1, help="How many credentials.")] = 1000,
    number: Annotated[int, typer.Option("--seed", help="The same number gives the same data.")] = 1,
    proof: Annotated[ProofKind, typer.Option(help="How they are signed.")] = ProofKind.data_integrity,
    as_json: AsJson = False,
) -> None:
    """Fill the database with realistic, really signed badges.

    Example: obms seed --credentials 1000000 --proof jwt
    """
    from obms.badges.seeding import seed as sow

    with opened_server() as server, _progress("credentials", credentials) as advance:
        rows = sow(
            server.database.engine,
            server.site,
            credentials=credentials,
            seed=number,
            proof=proof.value,
            progress=advance,
        )
    show(dict(rows), ", ".join(f"{count} {table}" for table, count in rows.items()), as_json=as_json)


@app.command()
def restore(
    name: Annotated[str | None, typer.Argument(help=NAME_HELP)] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check it and show the plan; touch nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    store: StoreUrl = None,
    undo: Annotated[bool, typer.Option("--undo", help="Bring back what the last restore replaced.")] = False,
    accept_other_key: AcceptOtherKey = False,
    accept_unsigned: AcceptUnsigned = False,
    same_kind: Annotated[
        bool, typer.Option("--same-kind", help="Refuse a backup of the other kind of database.")
    ] = False,
    compare_rows: Annotated[
        bool, typer.Option("--compare-rows", help="Compare every row with the backup, though a proof has.")
    ] = False,
    only: Only = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Replace the database by a backup, in one step; later revocations stay, and there is a way back.

    A backup of SQLite is restored on PostgreSQL too, and one of PostgreSQL on SQLite.

    Example: obms restore latest --yes
    """
    from obms.backup import restore as restoring
    from obms.backup.trust import Accepted
    from obms.backup.undo import last_safety_backup

    if (name is None) != undo:
        raise typer.BadParameter("name one backup, or --undo")
    if (only and undo) or (overwrite and not only):
        raise typer.BadParameter("--only goes with the name of a backup, and --overwrite with --only")
    everything = make_backups(load_settings())
    accepted = Accepted(not_signed=accept_unsigned, other_key=accept_other_key)
    name = named(name, store) if name else None
    if name and only:
        restore_only(
            everything,
            name,
            only,
            overwrite=overwrite,
            dry_run=dry_run,
            yes=yes,
            accepted=accepted,
            as_json=as_json,
        )
        return
    if dry_run:
        safety = name or last_safety_backup(everything)
        plan = restoring.plan(everything, safety, accepted=accepted, same_kind=same_kind)
        show(plain(plan), plan_as_text(plain(plan)), as_json=as_json)
        return
    if not yes:
        _ask(name or "what the last restore replaced")
    if name:
        done = restoring.restore(
            everything, name, accepted=accepted, same_kind=same_kind, compare_rows=compare_rows
        )
    else:
        done = restoring.undo(everything)
    show(plain(done), restored_as_text(plain(done)), as_json=as_json)
    warn(plain(done))


@app.command()
def move(
    *,
    to: Annotated[str, typer.Option("--to", help="postgresql://user:password@host/name or sqlite:///path.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the target and show the plan; touch nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Move to the other kind of database: every row, shown equal, and nobody writes to the old one any more.

    The API may run; at the end it has to be restarted with the settings that are printed.

    Example: obms move --to postgresql://obms:secret@localhost/openbadges --yes
    """
    from obms.app import open_target
    from obms.backup import move as moving

    settings = load_settings()
    everything = make_backups(settings)
    target, lines = open_target(settings, to)
    if dry_run:
        moving.check_target(everything, target)
        show({"steps": moving.STEPS, "settings": lines}, move_plan_as_text(moving.STEPS), as_json=as_json)
        return
    if not yes:
        _ask(f"that of {target.kind} (the old one takes no more writes)")
    done = moving.move(everything, target)
    show(plain(done) | {"settings": lines}, moved_as_text(plain(done), lines), as_json=as_json)


def _ask(what: str) -> None:
    if not sys.stdin.isatty() or not typer.confirm(f"Replace the live database by {what}?", err=True):
        raise NeedsConfirmation(what="replace the live database")


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, on a terminal only."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.update(task, advance=count)
