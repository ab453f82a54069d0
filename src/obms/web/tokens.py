"""Tokens that are signed when they are asked for, by whoever asks."""

from fastapi import Request

from obms.badges.keys import SigningKey, find_active
from obms.domain import Algorithm
from obms.errors import Conflict
from obms.server import Server
from obms.web.accepting import prefers
from obms.web.context import reading

JWT_TYPE = "application/vc+jwt"


def wants_token(request: Request, wanted: str | None) -> bool:
    """Whether it is asked for by `?format=jwt`, or without one by the Accept header."""
    return wanted == "jwt" or (wanted is None and prefers(request, JWT_TYPE))


def token_key(server: Server, issuer_id: str, *algorithms: Algorithm) -> SigningKey:
    """The key in use of an issuer, of the first of these that it has one of; Conflict if it has none.

    None is made: who only reads must not be able to write.
    """
    with reading(server) as connection:
        for algorithm in algorithms:
            if found := find_active(connection, issuer_id, algorithm):
                return found
    wanted = " or ".join(algorithms)
    raise Conflict(detail=f"The issuer {issuer_id} has no {wanted} key in use. `obms keys rotate` makes one")
