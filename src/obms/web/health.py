"""Health: a real query each time, and the age of the newest proven backup."""

import dataclasses
import resource
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from obms.backup.drill_report import Drill
from obms.errors import DatabaseNotMigrated, DatabaseUnreachable
from obms.looking import worst
from obms.looking.deep import VITAL
from obms.looking.health import BackupHealth
from obms.observe import logger
from obms.schema import metadata
from obms.server import Server
from obms.specs import iso
from obms.web.answers import JSON, Responses, of_types
from obms.web.context import TheActor, TheServer, reading

router = APIRouter(tags=["health"])
UNUSABLE: Responses = {
    503: {"description": "The database cannot be used, or is damaged.", "content": {JSON: {}}}
}
REVISION = sa.table("alembic_version", sa.column("version_num"))
STATM = Path("/proc/self/statm")


@router.get("/health", responses=UNUSABLE)
def read_health(request: Request, response: Response, server: TheServer) -> dict[str, Any]:
    """`ok`, `degraded` (no fresh proven backup, or no journal) or, with 503, `error` (no usable database)."""
    database = examine(server)
    backup = server.backup_health()
    now = server.site.clock()
    status = "error" if not database["connected"] else "degraded" if backup.degraded else "ok"
    if status == "error":
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return {
        "status": status,
        "timestamp": iso(now),
        "uptime": (now - request.app.state.started).total_seconds(),
        "database": database,
        "backup": shown_backup(backup),
        "memory": {"rss": resident_bytes()},
        "version": server.version,
    }


@router.get("/health/deep", responses=UNUSABLE)
def read_deep_health(response: Response, server: TheServer, actor: TheActor) -> dict[str, Any]:
    """For admins: as /health, and each thing that was looked at; `error` (503) is of the database only."""
    actor.require_admin()
    database, findings = examine(server), server.look()
    broken = not database["connected"] or any(one.name == VITAL and one.light == "red" for one in findings)
    if broken:
        response.status_code = 503
    return {
        "status": "error" if broken else "degraded" if worst(findings) == "red" else "ok",
        "timestamp": iso(server.site.clock()),
        "database": database,
        "checks": [dataclasses.asdict(one) for one in findings],
        "version": server.version,
    }


@router.get("/metrics", response_class=Response, responses=of_types(200, "text/plain"))
def read_metrics(server: TheServer) -> Response:
    """For Prometheus: how the backups stand, computed at each request, so that every worker says the same."""
    return Response(server.metrics(), media_type=CONTENT_TYPE_LATEST)


@router.get("/version")
def read_version(server: TheServer) -> dict[str, str]:
    return {"version": server.version, "schemaRevision": server.needed_revision}


def examine(server: Server) -> dict[str, Any]:
    """What a query of every table says of the database; `connected` only if all of them answer."""
    found: dict[str, Any] = {"type": server.database.kind, "connected": False}
    started = time.perf_counter()
    try:
        with reading(server) as connection:
            found["schemaRevision"] = connection.execute(sa.select(REVISION.c.version_num)).scalar()
            if found["schemaRevision"] != server.needed_revision:
                raise DatabaseNotMigrated(found=found["schemaRevision"], needed=server.needed_revision)
            tables = (
                sa.exists(sa.select(sa.literal(1)).select_from(table)) for table in metadata.sorted_tables
            )
            connection.execute(sa.select(*(table.label(f"t{n}") for n, table in enumerate(tables)))).one()
    except (sa.exc.SQLAlchemyError, DatabaseUnreachable) as error:
        logger().error("database is not usable", error=str(error))
        found["error"] = (
            str(error) if isinstance(error, DatabaseUnreachable) else "The database does not answer."
        )
    else:
        found["connected"] = True
    found["responseTime"] = round((time.perf_counter() - started) * 1000, 3)
    return found


def shown_backup(backup: BackupHealth) -> dict[str, Any]:
    return {
        "newestProven": iso(backup.newest_proven) if backup.newest_proven else None,
        "ageSeconds": int(backup.age.total_seconds()) if backup.age is not None else None,
        "nextRun": iso(backup.next_run) if backup.next_run else None,
        "lastRun": iso(backup.last_run) if backup.last_run else None,
        "nextDrill": iso(backup.next_drill) if backup.next_drill else None,
        "lastDrill": shown_drill(backup.last_drill) if backup.last_drill else None,
        **({"problem": backup.problem} if backup.problem else {}),
        **({"journalProblem": backup.journal_problem} if backup.journal_problem else {}),
    }


def shown_drill(drill: Drill) -> dict[str, Any]:
    return {
        "at": iso(drill.started_at),
        "ok": drill.ok,
        "rpoSeconds": drill.rpo_seconds,
        "rtoSeconds": drill.rto_seconds,
    }


def resident_bytes() -> int:
    """Memory in use now; where the system does not tell, the most that ever was."""
    if STATM.exists():
        return int(STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
