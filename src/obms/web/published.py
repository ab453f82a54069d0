"""What the world looks up: keys, the DID document of the server, and pictures."""

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Response

from obms.badges import keys
from obms.errors import NotFound
from obms.schema import images
from obms.web.context import TheServer, reading

router = APIRouter(tags=["keys and pictures"])


@router.get("/.well-known/jwks.json")
def read_jwks(server: TheServer) -> dict[str, Any]:
    with reading(server) as connection:
        return keys.jwks(connection, server.site.base_url)


@router.get("/.well-known/did.json")
def read_site_did_document(server: TheServer) -> dict[str, Any]:
    with reading(server) as connection:
        return keys.site_did_document(connection, server.site.base_url)


@router.get("/public-keys")
def list_public_keys(server: TheServer) -> list[dict[str, Any]]:
    with reading(server) as connection:
        return keys.public_keys(connection, server.site.base_url)


@router.get("/assets/{name}", response_class=Response)
def read_image(name: str, server: TheServer) -> Response:
    """A picture; what a browser would run in one is not run."""
    if "\x00" in name:
        raise NotFound(what="image", id=name)
    query = sa.select(images.c.media_type, images.c.content).where(images.c.name == name)
    with reading(server) as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(what="image", id=name)
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
    return Response(bytes(row.content), media_type=row.media_type, headers=headers)
