"""Tokens that are signed when they are asked for, by whoever asks."""

from fastapi import Request

from obms.app import Server
from obms.badges.keys import RSA, SigningKey, active_key, find_active
from obms.web.context import reading, writing

JWT_TYPE = "application/vc+jwt"


def wants_token(request: Request, wanted: str | None) -> bool:
    """Whether it is asked for by `?format=jwt`, or without one by the Accept header."""
    return wanted == "jwt" or (wanted is None and JWT_TYPE in request.headers.get("accept", ""))


def token_key(server: Server, issuer_id: str) -> SigningKey:
    """The RSA key of an issuer. An issuer of an older version gets its own now; else nothing is locked."""
    with reading(server) as connection:
        if found := find_active(connection, issuer_id, RSA):
            return found
    with writing(server) as connection:
        return active_key(connection, server.site, issuer_id, RSA)
