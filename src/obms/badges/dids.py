"""Who a DID is: one of our issuers, by the database; somebody else, by the web, where that is wanted."""

import sqlalchemy as sa
from openbadgeslib.errors import LibOpenBadgesException
from openbadgeslib.ob3.did import fetch_did_web_document
from openvc.did.base import (
    DidDocument,
    DidResolutionError,
    DidResolver,
    DidResolverRegistry,
    parse_did_document,
)
from openvc.did.did_jwk import DidJwkResolver
from openvc.did.did_key import DidKeyResolver

from obms.badges import Site, key_documents
from obms.badges.fetching import NotFetched, Visit
from obms.specs import issuer_did


class OwnDids:
    """The did:web documents of our issuers, read from the database."""

    def __init__(self, connection: sa.Connection, site: Site) -> None:
        self.connection, self.site = connection, site
        self.start = issuer_did(site.base_url, "")

    def supports(self, did: str) -> bool:
        return did.startswith(self.start)

    def resolve(self, did: str) -> DidDocument:
        issuer_id = did.removeprefix(self.start)
        found = key_documents.did_document(self.connection, issuer_id, self.site.base_url)
        if found is None:
            raise DidResolutionError(f"there is no issuer {did}")
        return parse_did_document(found)


class WebDids:
    """The did:web documents of others, fetched with the bounds of a visit."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit

    def supports(self, did: str) -> bool:
        return did.startswith("did:web:")

    def resolve(self, did: str) -> DidDocument:
        try:
            return parse_did_document(fetch_did_web_document(did, download=self.visit))
        except (LibOpenBadgesException, NotFetched) as error:
            raise DidResolutionError(f"{did} was not found: {error}") from error


def registry(connection: sa.Connection, site: Site, visit: Visit | None) -> DidResolverRegistry:
    """Without a visit nothing is fetched: did:key, did:jwk and our own did:web are known."""
    known: list[DidResolver] = [OwnDids(connection, site), DidKeyResolver(), DidJwkResolver()]
    return DidResolverRegistry([*known, WebDids(visit)] if visit else known)
