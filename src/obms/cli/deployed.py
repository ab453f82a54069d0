"""`obms verify-deployment`: a running server, tested from outside."""

# Imports stand in the command that needs them, so that `--help` answers at once.

import time
from typing import TYPE_CHECKING, Annotated

import typer

from obms.cli.common import AsJson, load_settings
from obms.cli.output import checks_as_text, plain, show
from obms.errors import DeploymentUnfit, ServerWithoutDatabase

if TYPE_CHECKING:
    from obms.backup.manifest import Check

SAMPLE = 40


def verify_deployment(
    *,
    url: Annotated[
        str | None, typer.Option("--url", help="Address of the server. Else that of this machine at PORT.")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="How many credentials to ask for.")] = SAMPLE,
    log: Annotated[
        typer.FileText | None,
        typer.Option(
            encoding="utf-8", errors="replace", help="A log of the server, or - for standard input."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Test a running server over HTTP, as a stranger who verifies its badges, and read its log for errors.

    Which badges there are it learns from the database of the settings, or else by AUTH_API_KEY.
    It changes nothing. It ends with 6 where a check fails, and with 3 where there is no server.

    Example: obms verify-deployment --url http://localhost:3000
    """
    from obms.app import open_visit
    from obms.looking.deployment import examine, judge_log
    from obms.looking.logs import read_log

    settings, started = load_settings(), time.perf_counter()
    with open_visit(settings, url, sample) as visit:
        checks = examine(visit)
    checks += [judge_log(read_log(log))] if log else []
    found = {
        "url": visit.outside.url,
        "ok": all(check.ok for check in checks),
        "source": visit.sample.source,
        "credentials": len(visit.sample.held),
        "checks": plain(checks),
        "seconds": round(time.perf_counter() - started, 3),
    }
    show(found, f"{visit.outside.url}\n{checks_as_text(checks)}", as_json=as_json)
    _require_good(visit.outside.url, checks)


def _require_good(url: str, checks: "list[Check]") -> None:
    bad = "; ".join(f"{check.name}: {check.detail}" for check in checks if not check.ok)
    if not checks[0].ok:
        raise ServerWithoutDatabase(url=url, detail=bad)
    if bad:
        raise DeploymentUnfit(url=url, detail=bad)
