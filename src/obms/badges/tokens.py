"""The same badge as a token: made when it is asked for, since RSA gives the same bytes each time."""

import sqlalchemy as sa

from obms.badges import Site, credentials, proofs
from obms.badges.keys import SigningKey
from obms.badges.signers import open_signer
from obms.domain import REVOCATION
from obms.schema import revocations, status_entries, status_lists
from obms.specs import Json, ob2, ob2_signed, vc


def as_token(site: Site, key: SigningKey, kept: credentials.Kept) -> str:
    """A credential that was signed by Data Integrity, as VC-JWT."""
    return document_token(site, key, credentials.read_document(kept))


def document_token(site: Site, key: SigningKey, document: Json) -> str:
    """A document with a proof in it, as VC-JWT without."""
    bare = {name: value for name, value in document.items() if name != "proof"}
    return proofs.make_token(vc.jwt_claims(bare), open_signer(site, key))


def as_signed_assertion(
    connection: sa.Connection, site: Site, key: SigningKey, kept: credentials.Kept
) -> str:
    """The credential as a signed badge of Open Badges 2.0: a JWS."""
    hosted = ob2.assertion(credentials.read(connection, kept), site.base_url)
    assertion = ob2_signed.assertion(hosted, kept.id, key.id, site.base_url)
    return proofs.make_token(assertion, open_signer(site, key), proofs.JWS)


def revocation_list(connection: sa.Connection, issuer_id: str, site_url: str) -> Json:
    """What is revoked of an issuer: what was deleted has its bit in a status list only, and no reason."""
    query = (
        sa.select(status_entries.c.credential_id, revocations.c.reason)
        .select_from(status_entries.join(status_lists).outerjoin(revocations))
        .where(
            status_lists.c.issuer_id == issuer_id,
            status_entries.c.purpose == REVOCATION,
            status_entries.c.value,
        )
        .order_by(status_entries.c.credential_id)
    )
    rows = ((row.credential_id, row.reason) for row in connection.execute(query))
    return ob2_signed.revocation_list(issuer_id, rows, site_url)
