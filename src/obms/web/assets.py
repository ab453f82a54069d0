"""Pictures: uploaded with a key, and shown to everybody."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from obms.badges import access, images
from obms.errors import Forbidden
from obms.specs import iso
from obms.web.answers import UNCHANGED, of_types, refused
from obms.web.context import TheActor, TheServer, reading, writing
from obms.web.uploads import OF_FILE, TheUpload, text_field

router = APIRouter(tags=["pictures"])
CACHING = "public, max-age=31536000, immutable"
# What a browser would run in a picture is not run, and nothing is loaded for it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
KINDS = of_types(200, *images.EXTENSIONS)
KEPT = {200: {"description": "It was here already."}, **refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)}
EDITORS = {"owner", "editor"}


def require_editor(actor: access.Actor) -> None:
    """Forbidden unless the actor may edit the achievements of some issuer."""
    if not actor.is_admin and not any(role in EDITORS for role, _issuer in actor.roles):
        raise Forbidden


@router.post("/assets", status_code=201, openapi_extra=OF_FILE, responses=KEPT)
def create_asset(
    server: TheServer,
    actor: TheActor,
    upload: TheUpload,
    response: Response,
    name: Annotated[str | None, Query(description="Its name, without a suffix; else one is made.")] = None,
) -> dict[str, Any]:
    """Keep a picture of at most 5 MB: PNG, SVG, JPEG, GIF or WebP, whatever it is said to be."""
    require_editor(actor)
    picture = images.judge(upload.content)
    with writing(server) as connection:
        asset, is_new = images.keep(connection, server.site, picture, name or text_field(upload, "name"))
        if is_new:
            access.record(connection, server.site, actor, "asset.create", asset.name)
    url = f"{server.site.base_url}/assets/{asset.name}"
    response.headers["Location"] = url
    response.status_code = 201 if is_new else 200
    return {
        "id": url,
        "url": url,
        "name": asset.name,
        "mediaType": asset.media_type,
        "size": len(asset.content),
        "createdAt": iso(asset.created_at),
    }


@router.get("/assets/{name}", response_class=Response, responses=KINDS | UNCHANGED)
def read_asset(name: str, request: Request, server: TheServer) -> Response:
    """A picture; its name never means another one."""
    with reading(server) as connection:
        asset = images.find(connection, name)
    return picture_answer(request, asset.content, asset.media_type, tag=asset.id, caching=CACHING, name=name)


def picture_answer(
    request: Request, content: bytes, media_type: str, *, tag: str, caching: str, name: str
) -> Response:
    """The picture with the headers that keep it a picture; 304 where the client has it."""
    headers = {
        "ETag": f'"{tag}"',
        "Cache-Control": caching,
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Content-Disposition": f'inline; filename="{name}"',
    }
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if headers["ETag"] in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)
