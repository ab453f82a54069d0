"""Signing keys: one in use per issuer, the retired ones kept, and what is published of them."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from openbadgeslib.keys import public_jwk_from_pem
from openbadgeslib.ob3 import build_did_document, multikey_from_pem
from sqlalchemy.dialects import postgresql, sqlite

from obms.badges import Site
from obms.schema import issuers, signing_keys
from obms.specs import Json, iso, issuer_did, site_did

ALGORITHM = "Ed25519"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A row of signing_keys; the private part is sealed."""

    id: str
    issuer_id: str
    algorithm: str
    public_pem: str
    sealed_private: bytes
    created_at: datetime
    retired_at: datetime | None

    def method(self, site_url: str) -> str:
        """The URL of the verification method, as proofs name it."""
        return f"{issuer_did(site_url, self.issuer_id)}#{self.id}"


def public_pem(private: Ed25519PrivateKey) -> str:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(private: Ed25519PrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def open_private(site: Site, key: SigningKey) -> Ed25519PrivateKey:
    """The private part. KeyMissing without the SECRET_KEY that it was sealed with."""
    return Ed25519PrivateKey.from_private_bytes(site.require_seal().open(bytes(key.sealed_private), key.id))


def key_row(
    site: Site, issuer_id: str, private: Ed25519PrivateKey, *, id: str, nonce: bytes | None = None
) -> dict[str, Any]:
    """The row of a new key in use."""
    raw = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return {
        "id": id,
        "issuer_id": issuer_id,
        "algorithm": ALGORITHM,
        "public_pem": public_pem(private),
        "sealed_private": site.require_seal().seal(raw, id, nonce=nonce),
        "created_at": site.clock(),
        "retired_at": None,
    }


def _insert_unless_there(connection: sa.Connection, row: dict[str, Any]) -> None:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(insert(signing_keys).values(row).on_conflict_do_nothing())


def _find_active(connection: sa.Connection, issuer_id: str) -> SigningKey | None:
    found = connection.execute(
        sa.select(signing_keys).where(
            signing_keys.c.issuer_id == issuer_id,
            signing_keys.c.algorithm == ALGORITHM,
            signing_keys.c.retired_at.is_(None),
        )
    ).one_or_none()
    return SigningKey(**found._mapping) if found else None


def active_key(connection: sa.Connection, site: Site, issuer_id: str) -> SigningKey:
    """The key in use of an issuer, made if there is none.

    However many ask at once, all get the same: the unique index lets one insert win, and
    PostgreSQL makes the others wait for its commit.
    """
    if found := _find_active(connection, issuer_id):
        return found
    _insert_unless_there(
        connection, key_row(site, issuer_id, Ed25519PrivateKey.generate(), id=str(uuid.uuid4()))
    )
    found = _find_active(connection, issuer_id)
    if found is None:
        raise AssertionError("a key that was inserted, or lost to another, is there")
    return found


def retire_key(connection: sa.Connection, site: Site, issuer_id: str) -> SigningKey:
    """Retire the key in use and give the new one; badges of the old one go on to verify."""
    connection.execute(
        sa.update(signing_keys)
        .where(signing_keys.c.issuer_id == issuer_id, signing_keys.c.retired_at.is_(None))
        .values(retired_at=site.clock())
    )
    return active_key(connection, site, issuer_id)


def read_key(connection: sa.Connection, key_id: str) -> SigningKey | None:
    found = connection.execute(sa.select(signing_keys).where(signing_keys.c.id == key_id)).one_or_none()
    return SigningKey(**found._mapping) if found else None


def keys_of(connection: sa.Connection, issuer_id: str | None = None) -> list[SigningKey]:
    """All keys, those in use first and of the retired ones the latest first; of one issuer or of all."""
    query = sa.select(signing_keys).order_by(
        signing_keys.c.issuer_id,
        signing_keys.c.retired_at.is_not(None),
        signing_keys.c.created_at.desc(),
        signing_keys.c.id,
    )
    if issuer_id is not None:
        query = query.where(signing_keys.c.issuer_id == issuer_id)
    return [SigningKey(**row._mapping) for row in connection.execute(query)]


def jwk(key: SigningKey, site_url: str) -> Json:
    """The public part as a JSON Web Key; its `kid` is the URL that proofs name."""
    return {
        **public_jwk_from_pem(key.public_pem),
        "kid": key.method(site_url),
        "alg": "EdDSA",
        "use": "sig",
    }


def jwks(connection: sa.Connection, site_url: str) -> Json:
    """Every key of the server, retired ones too: old badges go on to verify."""
    return {"keys": [jwk(key, site_url) for key in keys_of(connection)]}


def public_keys(connection: sa.Connection, site_url: str) -> list[Json]:
    """Every key with what a person wants to know of it."""
    return [
        {
            "id": key.method(site_url),
            "type": "Multikey",
            "controller": issuer_did(site_url, key.issuer_id),
            "publicKeyMultibase": multikey_from_pem(key.public_pem),
            "publicKeyPem": key.public_pem,
            "created": iso(key.created_at),
            "retired": iso(key.retired_at) if key.retired_at else None,
        }
        for key in keys_of(connection)
    ]


def did_document(connection: sa.Connection, issuer_id: str, site_url: str) -> Json | None:
    """The did:web document of an issuer; None if there is no such issuer."""
    if connection.execute(sa.select(issuers.c.id).where(issuers.c.id == issuer_id)).one_or_none() is None:
        return None
    keys = keys_of(connection, issuer_id)
    return _did_document(issuer_did(site_url, issuer_id), keys)


def site_did_document(connection: sa.Connection, site_url: str) -> Json:
    """The did:web document of the server itself: the keys of all of its issuers."""
    return _did_document(site_did(site_url), keys_of(connection))


def _did_document(did: str, keys: list[SigningKey]) -> Json:
    if not keys:
        return {"@context": ["https://www.w3.org/ns/did/v1"], "id": did, "verificationMethod": []}
    methods = [(key.id, public_jwk_from_pem(key.public_pem)) for key in keys]
    return dict(build_did_document(did, methods))


def check_keys(connection: sa.Connection, site: Site) -> None:
    """KeyMissing when a key in use was sealed with another SECRET_KEY than this site's."""
    for key in keys_of(connection):
        if key.retired_at is None:
            open_private(site, key)
