"""What stands under /v2 alone: a hosted assertion, at the address that is its id."""

from fastapi import APIRouter, Response

from obms.web import credentials
from obms.web.answers import GONE, NO_KEY, SIGNED
from obms.web.context import TheServer

router = APIRouter(prefix="/v2", tags=["Open Badges 2.0"])


@router.get("/assertions/{credential_id}", responses=SIGNED | GONE | NO_KEY)
def read_assertion(credential_id: str, server: TheServer, wish: credentials.TheWish) -> Response:
    """It is verified by being fetched from here; with `format=jws` it is signed, and verified by its key."""
    return credentials.read_credential(credential_id, server, wish)
