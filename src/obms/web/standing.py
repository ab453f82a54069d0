"""Where a credential stands, changed: revoked, suspended or active, one by one or in a batch."""

from typing import Literal

import sqlalchemy as sa

from obms.backup.journal import Entry
from obms.badges import access, credentials, statuses
from obms.badges.standings import read_standing
from obms.domain import REVOCATION, SUSPENSION, Status
from obms.errors import Conflict
from obms.server import Server
from obms.specs import Json, credential_url, iso
from obms.web.models import ReasonBody

ROLES = ("owner", "editor", "staff")
Wanted = Literal["revoked", "suspended", "active"]
ACTIONS: dict[Wanted, str] = {"revoked": "revoke", "suspended": "suspend", "active": "unsuspend"}


class StandingBody(ReasonBody):
    """Where a credential is to stand, and why."""

    status: Wanted


def change(
    connection: sa.Connection,
    server: Server,
    actor: access.Actor,
    id: str,
    wanted: Wanted,
    reason: str | None,
) -> tuple[Json, Entry]:
    """Do it; where the credential stands then, and what is to be kept beside the backups after the commit.

    Doing it twice changes nothing. NotFound, Forbidden; Conflict for what is revoked and is to be suspended.
    """
    site = server.site
    actor.require(credentials.find(connection, id).issuer_id, *ROLES)
    if wanted == "revoked":
        changed = statuses.revoke(connection, site, id, reason)
    elif wanted == "suspended":
        changed = statuses.suspend(connection, site, id, reason)
    else:
        changed = statuses.lift_suspension(connection, site, id)
    if changed:
        access.record(connection, site, actor, f"credential.{ACTIONS[wanted]}", id, {"reason": reason})
    status = statuses.read_status(connection, id)
    entry = read_standing(connection, id, REVOCATION if wanted == "revoked" else SUSPENSION)
    return shown_status(server, id, status), entry


def set_standing(
    connection: sa.Connection, server: Server, actor: access.Actor, id: str, body: StandingBody
) -> tuple[Json, Entry]:
    """As `change`; Conflict too for what is revoked and is to be active again."""
    told, entry = change(connection, server, actor, id, body.status, body.reason)
    if body.status == "active" and told["revoked"]:
        raise Conflict(detail=f"The credential {id} is revoked, and stays so")
    return told, entry


def shown_status(server: Server, credential_id: str, status: Status | None) -> Json:
    if status is None:
        raise AssertionError("a credential that was changed has a place in a list")
    state = "revoked" if status.revoked else "suspended" if status.suspended else "active"
    return {
        "id": credential_url(server.site.base_url, credential_id),
        "status": state,
        "revoked": status.revoked,
        "suspended": status.suspended,
        "reason": status.reason,
        "since": iso(status.since) if status.since else None,
    }
