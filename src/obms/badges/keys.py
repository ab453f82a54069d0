"""Signing keys: of each issuer one in use per algorithm, and the retired ones, which are kept for ever."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from sqlalchemy.dialects import postgresql, sqlite

from obms.badges import Seal, Site
from obms.domain import Algorithm, JoseName, ProofKind
from obms.errors import Invalid, KeyDamaged, KeyMissing, NotFound
from obms.schema import signing_keys
from obms.specs import issuer_did

ED25519: Algorithm = "Ed25519"
RSA: Algorithm = "RSA"
ALGORITHMS: tuple[Algorithm, ...] = (ED25519, RSA)
RSA_BITS, RSA_EXPONENT = 2048, 65537
# What signatures of each are called in JOSE.
JOSE_NAMES: Mapping[str, JoseName] = {ED25519: "EdDSA", RSA: "RS256"}

PrivateKey = Ed25519PrivateKey | RSAPrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A row of signing_keys; the private part is sealed."""

    id: str
    issuer_id: str
    algorithm: Algorithm
    public_pem: str
    sealed_private: bytes
    created_at: datetime
    retired_at: datetime | None

    @property
    def jose_name(self) -> JoseName:
        return JOSE_NAMES[self.algorithm]

    def method(self, site_url: str) -> str:
        """The URL of the verification method, as proofs name it."""
        return f"{issuer_did(site_url, self.issuer_id)}#{self.id}"


def new_private(algorithm: Algorithm) -> PrivateKey:
    if algorithm == RSA:
        return generate_private_key(RSA_EXPONENT, RSA_BITS)
    return Ed25519PrivateKey.generate()


def public_pem(private: PrivateKey) -> str:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(private: PrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def private_bytes(private: PrivateKey) -> bytes:
    """The private part as it is sealed: raw for Ed25519, PKCS #8 for RSA."""
    if isinstance(private, RSAPrivateKey):
        return private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def read_private(algorithm: str, plain: bytes) -> PrivateKey:
    """The other way round; ValueError if the bytes are no key of this algorithm."""
    if algorithm != RSA:
        return Ed25519PrivateKey.from_private_bytes(plain)
    # Whether its primes are primes was known when it was sealed, and asking again takes 40 ms a key.
    private = load_der_private_key(plain, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(private, RSAPrivateKey):
        raise ValueError("it is no RSA key")  # noqa: TRY004 - the value is wrong, not the caller
    return private


def unseal(seal: Seal, key: SigningKey) -> PrivateKey:
    """The private part. KeyMissing if it was sealed with another SECRET_KEY, KeyDamaged if it is damaged."""
    if not key.sealed_private:
        raise KeyMissing(
            detail=f"the private part of the key {key.id} is kept elsewhere",
            hint="Set SIGNERS to where the signer of this key is.",
        )
    plain = seal.open(bytes(key.sealed_private), key.id)
    try:
        return read_private(key.algorithm, plain)
    except ValueError as error:
        raise KeyDamaged(id=key.id) from error


def key_row(
    site: Site, issuer_id: str, private: PrivateKey, *, id: str, nonce: bytes | None = None
) -> dict[str, Any]:
    """The row of a new key in use."""
    return {
        "id": id,
        "issuer_id": issuer_id,
        "algorithm": RSA if isinstance(private, RSAPrivateKey) else ED25519,
        "public_pem": public_pem(private),
        "sealed_private": site.require_seal().seal(private_bytes(private), id, nonce=nonce),
        "created_at": site.clock(),
        "retired_at": None,
    }


def _insert_unless_there(connection: sa.Connection, row: dict[str, Any]) -> None:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(insert(signing_keys).values(row).on_conflict_do_nothing())


FIND_ACTIVE = sa.select(signing_keys).where(
    signing_keys.c.issuer_id == sa.bindparam("issuer"),
    signing_keys.c.algorithm == sa.bindparam("named"),
    signing_keys.c.retired_at.is_(None),
)


def find_active(connection: sa.Connection, issuer_id: str, algorithm: Algorithm) -> SigningKey | None:
    wanted = {"issuer": issuer_id, "named": algorithm}
    found = connection.execute(FIND_ACTIVE, wanted).one_or_none()
    return SigningKey(**found._mapping) if found else None


def active_key(
    connection: sa.Connection, site: Site, issuer_id: str, algorithm: Algorithm = ED25519
) -> SigningKey:
    """The key in use of an issuer, made if there is none.

    However many ask at once, all get the same: the unique index lets one insert win, and
    PostgreSQL makes the others wait for its commit.
    """
    if found := find_active(connection, issuer_id, algorithm):
        return found
    site.require_seal()
    _insert_unless_there(connection, key_row(site, issuer_id, new_private(algorithm), id=str(uuid.uuid4())))
    found = find_active(connection, issuer_id, algorithm)
    if found is None:
        raise AssertionError("a key that was inserted, or lost to another, is there")
    return found


def algorithm_for(proof: ProofKind, alg: JoseName | None = None) -> Algorithm:
    """What a proof is signed with: Data Integrity with Ed25519, a JWT with RSA unless EdDSA is asked for."""
    return ED25519 if proof == "data-integrity" or alg == JOSE_NAMES[ED25519] else RSA


def choose_key(
    connection: sa.Connection, site: Site, issuer_id: str, algorithm: Algorithm, key_id: str | None = None
) -> SigningKey:
    """The key to sign with: the one that is named, by its bare id or as proofs do, else the one in use.

    Invalid (under `keyId`) for a key that is not the issuer's, is retired, or is of another algorithm.
    """
    if key_id is None:
        return active_key(connection, site, issuer_id, algorithm)
    key = read_key(connection, key_id.rpartition("#")[2])
    if key is None or key.issuer_id != issuer_id:
        raise Invalid(keyId=["is no key of this issuer"])
    if key.retired_at is not None:
        raise Invalid(keyId=["was retired, and signs no more"])
    if key.algorithm != algorithm:
        raise Invalid(keyId=[f"is a key for {key.jose_name}, and this proof takes {JOSE_NAMES[algorithm]}"])
    return key


def make_keys(connection: sa.Connection, site: Site, issuer_id: str) -> None:
    """Give an issuer a key of each algorithm, so that whoever looks its keys up finds all of them."""
    for algorithm in ALGORITHMS:
        active_key(connection, site, issuer_id, algorithm)


def rotate(connection: sa.Connection, site: Site, issuer_id: str, algorithm: Algorithm) -> SigningKey:
    """Retire the key in use and give the new one; badges of the old one go on to verify."""
    retire_active(connection, site, issuer_id, algorithm)
    return active_key(connection, site, issuer_id, algorithm)


def retire_active(connection: sa.Connection, site: Site, issuer_id: str, algorithm: Algorithm) -> None:
    connection.execute(
        sa.update(signing_keys)
        .where(
            signing_keys.c.issuer_id == issuer_id,
            signing_keys.c.algorithm == algorithm,
            signing_keys.c.retired_at.is_(None),
        )
        .values(retired_at=site.clock())
    )


def retire(connection: sa.Connection, site: Site, key_id: str) -> tuple[SigningKey, bool]:
    """Sign with a key no more; the key, and whether it was in use. NotFound. Who signs next makes another."""
    changed = connection.execute(
        sa.update(signing_keys)
        .where(signing_keys.c.id == key_id, signing_keys.c.retired_at.is_(None))
        .values(retired_at=site.clock())
    ).rowcount
    key = read_key(connection, key_id)
    if key is None:
        raise NotFound(what="key", id=key_id)
    return key, changed > 0


def read_key(connection: sa.Connection, key_id: str) -> SigningKey | None:
    found = connection.execute(sa.select(signing_keys).where(signing_keys.c.id == key_id)).one_or_none()
    return SigningKey(**found._mapping) if found else None


def keys_of(
    connection: sa.Connection, issuer_id: str | None = None, algorithm: Algorithm | None = None
) -> list[SigningKey]:
    """All keys, those in use first and of the retired ones the latest first; of one issuer or of all."""
    query = sa.select(signing_keys).order_by(
        signing_keys.c.issuer_id,
        signing_keys.c.retired_at.is_not(None),
        signing_keys.c.created_at.desc(),
        signing_keys.c.algorithm,
        signing_keys.c.id,
    )
    if issuer_id is not None:
        query = query.where(signing_keys.c.issuer_id == issuer_id)
    if algorithm is not None:
        query = query.where(signing_keys.c.algorithm == algorithm)
    return [SigningKey(**row._mapping) for row in connection.execute(query)]


def ids_in_use(connection: sa.Connection, issuer_ids: Iterable[str], algorithm: Algorithm) -> dict[str, str]:
    """The id of the key in use of each issuer that has one."""
    query = sa.select(signing_keys.c.issuer_id, signing_keys.c.id).where(
        signing_keys.c.issuer_id.in_(set(issuer_ids)),
        signing_keys.c.algorithm == algorithm,
        signing_keys.c.retired_at.is_(None),
    )
    return {row.issuer_id: row.id for row in connection.execute(query)}


def check_keys(connection: sa.Connection, site: Site) -> None:
    """KeyMissing when a key in use was sealed with another SECRET_KEY than this site's."""
    for key in keys_of(connection):
        if key.retired_at is None and key.id not in site.signers:
            unseal(site.require_seal(), key)
