"""The same badges in Open Badges 2.0, under /v2: hosted assertions, badge classes, issuers."""

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query, Response

from obms.badges import credentials, keys, profiles, statuses, tokens
from obms.errors import Gone
from obms.specs import ob2, ob2_signed
from obms.web.context import TheServer, read_id, reading
from obms.web.tokens import token_key

router = APIRouter(prefix="/v2", tags=["Open Badges 2.0"])


@router.get("/issuers/{issuer_id}")
def read_issuer(issuer_id: str, server: TheServer) -> dict[str, Any]:
    with reading(server) as connection:
        issuer = profiles.find_issuer(connection, read_id("issuer", issuer_id))
        key_ids = [key.id for key in keys.keys_of(connection, issuer.id, keys.RSA)]
    members = ob2_signed.issuer_members(issuer.id, key_ids, server.site.base_url)
    return ob2.issuer_profile(issuer, server.site.base_url) | members


@router.get("/achievements/{achievement_id}")
def read_badge_class(achievement_id: str, server: TheServer) -> dict[str, Any]:
    with reading(server) as connection:
        achievement = profiles.find_achievement(connection, read_id("achievement", achievement_id))
    return ob2.badge_class(achievement, server.site.base_url)


@router.get("/assertions/{credential_id}", response_model=None)
@router.get("/credentials/{credential_id}", response_model=None)
def read_assertion(
    credential_id: str,
    server: TheServer,
    format: Annotated[Literal["json", "jws"] | None, Query(description="`jws` gives it signed.")] = None,  # noqa: A002
) -> Response | dict[str, Any]:
    id = read_id("assertion", credential_id)
    with reading(server) as connection:
        refuse_revoked(connection, id, server.site.base_url)
        kept = credentials.find(connection, id)
        if format != "jws":
            return ob2.assertion(credentials.read(connection, kept), server.site.base_url)
    key = token_key(server, kept.issuer_id)
    with reading(server) as connection:
        token = tokens.as_signed_assertion(connection, server.site, key, kept)
    return Response(token, media_type="application/jose")


def refuse_revoked(connection: sa.Connection, id: str, site_url: str) -> None:
    """Gone, with the body that 2.0 asks for at the id of a revoked assertion."""
    status = statuses.read_status(connection, id)
    if status is not None and status.revoked:
        document = ob2.revoked_assertion(id, status.reason, site_url)
        raise Gone(id=id, reason=status.reason, code="ASSERTION_REVOKED", document=document)
