"""The front door: what this server is, as JSON, or as a page for a person."""

from html import escape

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from obms.badges.examining import is_listed
from obms.schema import achievements, credentials, issuers, revocations
from obms.server import Server
from obms.web import health
from obms.web.accepting import prefers
from obms.web.answers import JSON, of_types
from obms.web.context import TheServer, reading

router = APIRouter(tags=["front"])
COUNTED = (issuers, achievements, credentials, revocations)
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Open Badges server</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.5rem }}
dt {{ color: #57606a }} dd {{ margin: 0 }}
.ok {{ color: #116329 }} .degraded {{ color: #9a6700 }} .error {{ color: #a40e26 }} a {{ color: #0550ae }}
</style>
<h1>Open Badges server</h1>
<p>Version {version}. Health: <strong class="{status}">{status}</strong>.</p>
<dl>{facts}</dl>
<p><a href="docs">API documentation</a> · <a href="health">Health</a> ·
<a href="issuers">Issuers</a> · <a href="achievements">Achievements</a> · <a href="public-keys">Keys</a></p>
</html>
"""


@router.get("/", response_model=None, responses=of_types(200, JSON, "text/html"))
def read_front(request: Request, server: TheServer) -> Response:
    """JSON, or a page where the browser asks for one."""
    headers = {"Vary": "Accept"}
    if prefers(request, "text/html"):
        return HTMLResponse(page(server), headers=headers)
    return JSONResponse(
        headers=headers,
        content={
            "name": "openbadges-modular-server",
            "version": server.version,
            "specification": ["Open Badges 3.0", "Open Badges 2.0"],
            "documentation": f"{server.site.base_url}/docs",
        },
    )


def page(server: Server) -> str:
    """Works without a database too: then it says so."""
    database, backup = health.examine(server), server.backup_health()
    status = "error" if not database["connected"] else "degraded" if backup.degraded else "ok"
    facts = {"database": database["type"], "newest proven backup": "none yet"}
    if backup.newest_proven is not None:
        facts["newest proven backup"] = f"{backup.newest_proven:%Y-%m-%d %H:%M} UTC"
    if backup.next_run is not None:
        facts["next backup"] = f"{backup.next_run:%Y-%m-%d %H:%M} UTC"
    if database["connected"]:
        facts |= counts(server)
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return PAGE.format(version=escape(server.version), status=status, facts=lines)


def counts(server: Server) -> dict[str, str]:
    queries = (
        sa.select(sa.func.count())
        .select_from(table)
        .where(is_listed(table))
        .scalar_subquery()
        .label(table.name)
        for table in COUNTED
    )
    with reading(server) as connection:
        row = connection.execute(sa.select(*queries)).one()
    return {name: f"{count:,}" for name, count in row._mapping.items()}
