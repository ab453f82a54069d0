"""Issuing: a credential gets its places in the status lists, its key and its proof, in one transaction."""

import hashlib
import json
import secrets
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import jwt
import sqlalchemy as sa
from openbadgeslib.errors import LibOpenBadgesException
from openbadgeslib.ob3 import add_data_integrity_proof

from obms.badges import Site, keys, profiles, signatures, statuses
from obms.domain import Credential, Evidence, Image, ProofKind, Recipient
from obms.errors import Invalid
from obms.schema import credentials
from obms.specs import Json, ob3


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a client asks to be issued."""

    achievement_id: str
    recipient: Recipient
    issued_at: datetime
    expires_at: datetime | None = None
    evidence: tuple[Evidence, ...] = ()
    narrative: str | None = None
    image: Image | None = None
    proof: ProofKind = "data-integrity"


def hash_recipient(recipient: Recipient) -> Recipient:
    """The recipient as it is published: hashed with a salt where it is to be hashed and is not yet."""
    if not recipient.hashed or recipient.identity.startswith("sha256$"):
        return recipient
    salt = recipient.salt or secrets.token_hex(16)
    digest = hashlib.sha256(f"{recipient.identity}{salt}".encode()).hexdigest()
    return Recipient(type=recipient.type, identity=f"sha256${digest}", hashed=True, salt=salt)


def issue(connection: sa.Connection, site: Site, order: Order) -> str:
    """Issue and keep a signed credential; its id.

    NotFound for the achievement, Invalid for what cannot be signed.
    """
    achievement = profiles.find_achievement(connection, order.achievement_id)
    issuer = profiles.find_issuer(connection, achievement.issuer_id)
    entries = statuses.take_places(connection, site, issuer.id)
    credential = Credential(
        id=str(uuid.uuid4()),
        issuer=issuer,
        achievement=achievement,
        recipient=hash_recipient(order.recipient),
        issued_at=order.issued_at.replace(microsecond=0),
        expires_at=order.expires_at.replace(microsecond=0) if order.expires_at else None,
        evidence=order.evidence,
        narrative=order.narrative,
        image=order.image,
        statuses=entries,
    )
    key = keys.active_key(connection, site, issuer.id)
    document = sign(site, key, credential, order.proof)
    row = credential_row(credential, key.id, order.proof, document) | {"created_at": site.clock()}
    connection.execute(sa.insert(credentials).values(row))
    statuses.add_entries(connection, credential.id, entries)
    return credential.id


def sign(site: Site, key: keys.SigningKey, credential: Credential, proof: ProofKind) -> str:
    """The signed document as it is kept and given out; it was verified once, by its public key."""
    document = ob3.credential_document(credential, site.base_url)
    sign_it = _sign_jwt if proof == "jwt" else _sign_data_integrity
    signed = sign_it(site, key, document)
    try:
        signatures.check(signed, proof, key.public_pem)
    except signatures.BadSignature as error:
        # What JSON-LD reads otherwise than JSON (an id that is no IRI, two things of one id) must not go out.
        raise Invalid(credential=[f"cannot be signed as it stands: {error}"]) from error
    return signed


def _sign_data_integrity(site: Site, key: keys.SigningKey, document: Json) -> str:
    private = keys.private_pem(keys.open_private(site, key))
    method = key.method(site.base_url)
    try:
        signed = add_data_integrity_proof(document, private, method, created=site.clock())
    except LibOpenBadgesException as error:
        raise Invalid(credential=[f"cannot be signed as it stands: {error}"]) from error
    return json.dumps(signed, ensure_ascii=False, separators=(",", ":"))


def _sign_jwt(site: Site, key: keys.SigningKey, document: Json) -> str:
    headers = {"typ": "JWT", "kid": key.method(site.base_url)}
    return jwt.encode(
        ob3.jwt_claims(document), keys.open_private(site, key), algorithm="EdDSA", headers=headers
    )


def credential_row(credential: Credential, key_id: str, proof: ProofKind, document: str) -> dict[str, Any]:
    """The row of a credential, all but the time of its making."""
    extra = profiles.present(
        {"narrative": credential.narrative, "image": profiles.image_json(credential.image)}
    )
    if credential.evidence:
        extra["evidence"] = [profiles.present(asdict(evidence)) for evidence in credential.evidence]
    return {
        "id": credential.id,
        "issuer_id": credential.issuer.id,
        "achievement_id": credential.achievement.id,
        "key_id": key_id,
        "proof": proof,
        "document": document,
        "recipient": profiles.present(asdict(credential.recipient)),
        "extra": extra or None,
        "issued_at": credential.issued_at,
        "expires_at": credential.expires_at,
    }
