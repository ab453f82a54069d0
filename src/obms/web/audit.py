"""Who did what: GET /audit, for the administrator."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from obms.badges import access
from obms.specs import iso
from obms.web.context import TheActor, ThePage, TheServer, announce, reading

router = APIRouter(tags=["people"])
Sought = Annotated[str | None, Query(max_length=200)]


def sought(actor: Sought = None, action: Sought = None, subject: Sought = None) -> dict[str, str]:
    """What the events that are wanted have in their columns."""
    given = {"actor": actor, "action": action, "subject": subject}
    return {name: text for name, text in given.items() if text is not None and "\x00" not in text}


@router.get("/audit")
def list_events(
    request: Request,
    response: Response,
    server: TheServer,
    actor: TheActor,
    page: ThePage,
    wanted: Annotated[dict[str, str], Depends(sought)],
) -> list[dict[str, Any]]:
    """Who did what, newest first."""
    actor.require_admin()
    with reading(server) as connection:
        rows, total = access.list_events(connection, page.limit, page.offset, wanted)
    announce(request, response, page, total)
    return [{**row, "at": iso(row["at"])} for row in rows]
