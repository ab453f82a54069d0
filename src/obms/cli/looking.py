"""`obms drill`, `status` and `doctor`: what a loss would cost, how things stand, what is unsafe."""

# Imports stand in the commands that need them, so that `--help` answers at once.

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from obms.cli.common import AsJson, load_settings, make_backups, make_onlooker
from obms.cli.output import checks_as_text, plain, show
from obms.errors import StatusRed, Unsafe

if TYPE_CHECKING:
    from obms.backup.drill import Drilled
    from obms.looking import Finding


def drill(
    *,
    store: Annotated[
        str | None,
        typer.Option("--store", help="Of this store: its URL, or a folder. Else the last of BACKUP_STORES."),
    ] = None,
    scheduled: Annotated[bool, typer.Option("--scheduled", hidden=True)] = False,
    as_json: AsJson = False,
) -> None:
    """Play the loss of the machine through: fetch, restore beside the live database, start, verify, measure.

    It leaves a signed report and a page of it in BACKUP_DIR/drills. The live database is not touched.

    Example: obms drill --json
    """
    from obms.app import play_drill
    from obms.backup.schedule import end_with_input

    if scheduled:
        end_with_input()
    done = play_drill(make_backups(load_settings(), logged=scheduled), store)
    show(plain(done.report) | {"page": done.page}, _drill_as_text(done), as_json=as_json)
    if done.error is not None:
        raise done.error


def _drill_as_text(done: "Drilled") -> str:
    from obms.backup.drill_report import seconds_as_text

    report = done.report
    lines = [f"{report.id or 'no backup'} from {report.store}", checks_as_text(report.checks)]
    lines += [f"would have been lost (RPO): {seconds_as_text(report.rpo_seconds)}"]
    lines += [f"recovered after (RTO): {seconds_as_text(report.rto_seconds)}"]
    lines += [f"report: {done.page}"] if done.page else []
    lines += ["recovered" if report.ok else "NOT RECOVERED"]
    return "\n".join(line for line in lines if line)


def status(
    *,
    check: Annotated[bool, typer.Option("--check", help="End with 6 when it is red.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how the database and its backups stand, and the command that mends what is not well.

    It asks no store and changes nothing. It ends with 0 whatever it shows, unless --check is given.

    Example: obms status
    """
    from obms.app import open_scene
    from obms.looking.status import read_status

    settings = load_settings()
    found = read_status(open_scene(settings, make_onlooker(settings)))
    show(plain(found), f"{found.light.upper()}\n{_findings_as_text(found.findings)}", as_json=as_json)
    if check and found.light == "red":
        red = (f"{one.name}: {one.detail}" for one in found.findings if one.light == "red")
        raise StatusRed(detail="; ".join(red))


def doctor(*, as_json: AsJson = False) -> None:
    """Look for what is unsafe though it works today: versions, rights, keys, clocks, stores, disks.

    It changes nothing. It ends with 8 where something is red, and with 0 otherwise.

    Example: obms doctor
    """
    from obms.app import open_scene
    from obms.looking import worst
    from obms.looking.doctor import examine

    settings = load_settings()
    findings = examine(open_scene(settings, make_onlooker(settings)))
    found = {"light": worst(findings), "findings": plain(findings)}
    show(found, _findings_as_text(findings), as_json=as_json)
    if found["light"] == "red":
        raise Unsafe(detail="; ".join(f"{one.name}: {one.detail}" for one in findings if one.light == "red"))


def _findings_as_text(findings: "Iterable[Finding]") -> str:
    lines = []
    for one in findings:
        lines.append(f"  {one.light:<6}  {one.name}: {one.detail}")
        lines += [f"          -> {one.mend}"] if one.mend else []
    return "\n".join(lines)
