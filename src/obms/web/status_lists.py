"""Status lists: each a signed credential whose id is its own address."""

from typing import Any

from fastapi import APIRouter, Request, Response

from obms.badges import statuses
from obms.specs import iso, status_list_url
from obms.web.context import ThePage, TheServer, announce, read_id, reading, writing

router = APIRouter(tags=["status lists"])


@router.get("/status-lists")
def list_status_lists(
    request: Request, response: Response, server: TheServer, page: ThePage
) -> list[dict[str, Any]]:
    with reading(server) as connection:
        rows, total = statuses.list_page(connection, page.limit, page.offset)
    announce(request, response, page, total)
    return [
        {
            "id": status_list_url(server.site.base_url, row["id"]),
            "purpose": row["purpose"],
            "totalEntries": row["size"],
            "statusSize": 1,
            "changed": iso(row["changed_at"]),
        }
        for row in rows
    ]


@router.get("/status-lists/{list_id}")
def read_status_list(list_id: str, server: TheServer) -> Response:
    """The list as it was signed; after a change it is signed anew by whoever asks first."""
    found = read_id("status list", list_id)
    with reading(server) as connection:
        document = statuses.fresh_document(statuses.find_list(connection, found))
    if document is None:
        with writing(server) as connection:
            document = statuses.sign_list(connection, server.site, found)
    return Response(document, media_type="application/json")
