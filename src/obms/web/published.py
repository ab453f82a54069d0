"""What the world looks up: keys, and the DID document of the server."""

from typing import Any

from fastapi import APIRouter

from obms.badges import keys
from obms.web.context import TheServer, reading

router = APIRouter(tags=["keys"])


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
