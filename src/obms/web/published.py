"""What the world looks up: keys, DID documents, and what verifiers of signed badges of 2.0 ask for."""

from typing import Any

from fastapi import APIRouter

from obms.badges import key_documents, keys, profiles, tokens
from obms.errors import NotFound
from obms.specs import ob2_signed
from obms.web.context import TheServer, read_id, reading

router = APIRouter(tags=["keys"])


@router.get("/.well-known/jwks.json")
def read_jwks(server: TheServer) -> dict[str, Any]:
    with reading(server) as connection:
        return key_documents.jwks(connection, server.site.base_url)


@router.get("/.well-known/did.json")
def read_site_did_document(server: TheServer) -> dict[str, Any]:
    with reading(server) as connection:
        return key_documents.site_did_document(connection, server.site.base_url)


@router.get("/issuers/{issuer_id}/did.json")
def read_did_document(issuer_id: str, server: TheServer) -> dict[str, Any]:
    with reading(server) as connection:
        id = read_id("issuer", issuer_id)
        document = key_documents.did_document(connection, id, server.site.base_url)
    if document is None:
        raise NotFound(what="issuer", id=issuer_id)
    return document


@router.get("/v2/keys/{key_id}")
def read_cryptographic_key(key_id: str, server: TheServer) -> dict[str, Any]:
    """The key that a signed badge of Open Badges 2.0 names as its creator."""
    with reading(server) as connection:
        key = keys.read_key(connection, read_id("key", key_id))
    if key is None:
        raise NotFound(what="key", id=key_id)
    return ob2_signed.cryptographic_key(key.id, key.issuer_id, key.public_pem, server.site.base_url)


@router.get("/v2/issuers/{issuer_id}/revocations")
def read_revocation_list(issuer_id: str, server: TheServer) -> dict[str, Any]:
    """What an issuer has revoked, for verifiers of signed badges of Open Badges 2.0."""
    id = read_id("issuer", issuer_id)
    with reading(server) as connection:
        profiles.require_known(connection, id)
        return tokens.revocation_list(connection, id, server.site.base_url)


@router.get("/public-keys")
def list_public_keys(server: TheServer) -> list[dict[str, Any]]:
    with reading(server) as connection:
        return key_documents.public_keys(connection, server.site.base_url)
