"""What is published of the keys: JSON Web Keys, DID documents, and what Open Badges 2.0 looks up."""

import sqlalchemy as sa
from openbadgeslib.keys import public_jwk_from_pem
from openbadgeslib.ob3 import multikey_from_pem

from obms.badges.keys import ED25519, SigningKey, keys_of
from obms.schema import issuers
from obms.specs import Json, iso, issuer_did, site_did

CONTEXT = (
    "https://www.w3.org/ns/did/v1",
    "https://w3id.org/security/multikey/v1",
    "https://w3id.org/security/jwk/v1",
)


def jwk(key: SigningKey, kid: str) -> Json:
    """The public part as a JSON Web Key, for signatures of one algorithm."""
    public = public_jwk_from_pem(key.public_pem)
    public.pop("key_ops", None)  # RFC 7517 wants it or `use`, and not both
    return public | {"kid": kid, "alg": key.jose_name, "use": "sig"}


def jwks(connection: sa.Connection, site_url: str) -> Json:
    """Every key of the server, retired ones too: old badges go on to verify.

    Its `kid` is the URL that proofs name.
    """
    return {"keys": [jwk(key, key.method(site_url)) for key in keys_of(connection)]}


def public_keys(connection: sa.Connection, site_url: str) -> list[Json]:
    """Every key with what a person wants to know of it."""
    return [
        {
            **verification_method(key, issuer_did(site_url, key.issuer_id)),
            "algorithm": key.jose_name,
            "publicKeyPem": key.public_pem,
            "created": iso(key.created_at),
            "retired": iso(key.retired_at) if key.retired_at else None,
        }
        for key in keys_of(connection)
    ]


def verification_method(key: SigningKey, did: str) -> Json:
    """The key in a DID document; Data Integrity wants a Multikey, which there is none of for RSA."""
    method: Json = {"id": f"{did}#{key.id}", "type": "Multikey", "controller": did}
    if key.algorithm == ED25519:
        return method | {"publicKeyMultibase": multikey_from_pem(key.public_pem)}
    return method | {"type": "JsonWebKey", "publicKeyJwk": jwk(key, key.id)}


def did_document(connection: sa.Connection, issuer_id: str, site_url: str) -> Json | None:
    """The did:web document of an issuer; None if there is no such issuer."""
    if connection.execute(sa.select(issuers.c.id).where(issuers.c.id == issuer_id)).one_or_none() is None:
        return None
    return _did_document(issuer_did(site_url, issuer_id), keys_of(connection, issuer_id))


def site_did_document(connection: sa.Connection, site_url: str) -> Json:
    """The did:web document of the server itself: the keys of all of its issuers."""
    return _did_document(site_did(site_url), keys_of(connection))


def _did_document(did: str, keys: list[SigningKey]) -> Json:
    methods = [verification_method(key, did) for key in keys]
    return {
        "@context": list(CONTEXT),
        "id": did,
        "verificationMethod": methods,
        "assertionMethod": [method["id"] for method in methods],
    }
