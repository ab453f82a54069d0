"""Keys whose private part is kept elsewhere: who signs with them, by the setting SIGNERS, and their rows."""

import importlib
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache

import jwt
import sqlalchemy as sa

from obms.badges import Signer, Site, keys, proofs, signatures
from obms.badges.foreign_keys import algorithms_of
from obms.badges.inquiry import Fault
from obms.errors import ConfigurationError, Invalid
from obms.schema import signing_keys
from obms.specs import Json, issuer_did


@cache
def load_signers(place: str) -> Mapping[str, Signer]:
    """What `package.module:callable` gives, asked once in each process. ConfigurationError if it is none."""
    module, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(detail=f"SIGNERS={place} cannot be loaded: {error}") from error
    signers = found() if callable(found) else found
    if not isinstance(signers, Mapping):
        raise ConfigurationError(detail=f"SIGNERS={place} gives no mapping of key ids to signers")
    return signers


def adopt(
    connection: sa.Connection, site: Site, issuer_id: str, key_id: str, public_pem: str
) -> keys.SigningKey:
    """Take a key that is kept elsewhere into use, and retire the one that it follows.

    Invalid unless its signer is known and has signed now what the public part verifies.
    """
    if keys.read_key(connection, key_id) is not None:
        raise Invalid(key=["is here already"])
    signer = site.signers.get(key_id)
    if signer is None:
        raise Invalid(key=["is none of those that SIGNERS knows"])
    _require_signing(signer, f"{issuer_did(site.base_url, issuer_id)}#{key_id}", public_pem)
    algorithm = next(each for each in keys.ALGORITHMS if keys.JOSE_NAMES[each] == signer.alg)
    keys.retire_active(connection, site, issuer_id, algorithm)
    key = keys.SigningKey(
        id=key_id,
        issuer_id=issuer_id,
        algorithm=algorithm,
        public_pem=public_pem,
        sealed_private=b"",
        created_at=site.clock(),
        retired_at=None,
    )
    connection.execute(sa.insert(signing_keys).values(asdict(key)))
    return key


def _require_signing(signer: Signer, kid: str, public_pem: str) -> None:
    if signer.kid != kid:
        raise Invalid(key=[f"its signer is for {signer.kid}, and must be for {kid}"])
    try:
        algorithms_of(public_pem)  # which turns down those that are too short
        public, alg = signatures.read_public(public_pem)
        claims: Json = {"text": f"proof of {kid}"}
        signed = jwt.decode(proofs.make_token(claims, signer), public, algorithms=[alg])
    except (Fault, ValueError, jwt.InvalidTokenError) as error:
        raise Invalid(key=[f"does not sign as its public part verifies: {error}"]) from error
    if signed != claims:
        raise Invalid(key=["does not sign what it is given"])
