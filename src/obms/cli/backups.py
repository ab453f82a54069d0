"""`obms backup ...`: make, list, show, judge, schedule."""

# Imports stand in the commands that need them, so that `--help` answers at once.

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from obms.cli.common import (
    AcceptOtherKey,
    AcceptUnsigned,
    AsJson,
    Name,
    StoreUrl,
    load_settings,
    make_backups,
    named,
    open_storage,
    require_good,
)
from obms.cli.output import (
    backup_as_json,
    backup_as_text,
    checks_as_text,
    plain,
    run_as_json,
    run_as_text,
    show,
)

NOTHING_TO_KEEP = "Set one of them, such as BACKUP_SCHEDULE='0 0 * * *', or do not start this command."

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


class LevelName(StrEnum):
    """How far a proof goes."""

    intact = "intact"
    restorable = "restorable"
    proven = "proven"


@app.command("run")
def run(
    *,
    prove: Annotated[bool, typer.Option(help="Prove it by restoring it; unproven it does not count.")] = True,
    scheduled: Annotated[bool, typer.Option("--scheduled", hidden=True)] = False,
    as_json: AsJson = False,
) -> None:
    """Make a backup now, prove it, and copy it to BACKUP_STORES.

    It is ended, with exit 4, if that takes longer than BACKUP_TIMEOUT.

    Example: obms backup run --json
    """
    from obms.backup.run import failure
    from obms.backup.run import run as run_once
    from obms.backup.schedule import end_with_input

    if scheduled:
        end_with_input()
    backups = make_backups(load_settings(), logged=scheduled)
    made = run_once(backups, prove_it=prove, reason="scheduled" if scheduled else "manual")
    show(run_as_json(made), run_as_text(made), as_json=as_json)
    if error := failure(made):
        raise error


@app.command("list")
def list_all(*, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """List the backups, newest first, with what is damaged and what has no manifest.

    Example: obms backup list
    """
    from obms.app import trusted_key
    from obms.backup.catalog import read_catalog

    settings = load_settings()
    catalog = read_catalog(open_storage(settings, store), trusted_key(settings))
    rows = [backup_as_json(backup) for backup in catalog]
    if as_json:
        show(rows, "", as_json=as_json)
        return
    for row in rows:
        typer.echo(backup_as_text(row))
    if not rows:
        typer.echo(f"There is no backup in {store or settings.backup_dir}. `obms backup run` makes one.")


@app.command("show")
def show_one(name: Name, *, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Show all that is known of one backup: its manifest, and the verdict about it.

    Example: obms backup show latest
    """
    from obms.app import open_copies, trusted_key
    from obms.backup.catalog import find
    from obms.backup.source import hints_for, place_named

    settings, name = load_settings(), named(name, store)
    place = place_named(open_storage(settings, None), open_copies(settings), name)
    with hints_for(name):
        backup = find(*place, trusted_key(settings))
    shown = backup_as_json(backup) | {
        "manifest": plain(backup.manifest) if backup.manifest else None,
        "proof": plain(backup.verdict) if backup.verdict else None,
        "problem": backup.problem,
        "pin": plain(backup.pin),
    }
    show(shown, json.dumps(shown, indent=2, ensure_ascii=False, default=plain), as_json=as_json)


@app.command("verify")
def verify(
    name: Name,
    *,
    level: Annotated[LevelName, typer.Option(help="How far to go.")] = LevelName.proven,
    store: StoreUrl = None,
    accept_other_key: AcceptOtherKey = False,
    accept_unsigned: AcceptUnsigned = False,
    as_json: AsJson = False,
) -> None:
    """Judge a backup again: its bytes, a restore of it, the application on that.

    Example: obms backup verify latest
    """
    from obms.backup.run import verify as judge
    from obms.backup.trust import Accepted

    accepted = Accepted(not_signed=accept_unsigned, other_key=accept_other_key)
    verdict = judge(make_backups(load_settings()), named(name, store), level=level.value, accepted=accepted)
    result = {
        "id": verdict.id,
        "ok": verdict.ok,
        "level": verdict.level,
        "checks": plain(verdict.checks),
        "outcome": verdict.outcome,
    }
    show(result, checks_as_text(verdict.checks), as_json=as_json)
    require_good(verdict)


@app.command("schedule")
def schedule(
    *,
    until_input_ends: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Make a backup at each time of BACKUP_SCHEDULE, and hold a drill at each of DRILL_SCHEDULE.

    With both off there is nothing to do, and it ends with exit 2.

    Example: BACKUP_SCHEDULE="0 3 * * *" obms backup schedule
    """
    from obms.app import check_notices, open_drill_schedule, open_schedule, open_watch
    from obms.backup.child_run import drill_in_child, run_in_child
    from obms.backup.drill_report import last_drill_at
    from obms.backup.keeper import SCHEDULE, holding
    from obms.backup.schedule import OFF, Duty, end_with_input, keep_duties, last_run
    from obms.errors import ConfigurationError

    settings = load_settings()
    if until_input_ends:
        end_with_input()
    check_notices(settings)
    everything = make_backups(settings, logged=True)
    hold, watch = holding(everything.folder, SCHEDULE), open_watch(settings, everything)

    def look() -> None:
        hold()
        watch()

    hold()
    program = (sys.executable, "-m", "obms")
    runs = Duty(
        schedule=open_schedule(settings),
        start=lambda backups: run_in_child(backups, (*program, "backup", "run", "--scheduled"), look=look),
        last=lambda: last_run(everything),
    )
    drills = Duty(
        schedule=open_drill_schedule(settings),
        start=lambda backups: drill_in_child(backups, (*program, "drill", "--scheduled"), look=look),
        last=lambda: last_drill_at(everything.folder, everything.trusted),
    )
    if all(duty.schedule.expression == OFF for duty in (runs, drills)):
        raise ConfigurationError(detail="BACKUP_SCHEDULE and DRILL_SCHEDULE are off", hint=NOTHING_TO_KEEP)
    keep_duties(everything, [runs, drills], look=look)
