"""Issuing: a credential gets its places in the status lists, its key and its proof, in one transaction."""

import hashlib
import secrets
import uuid
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from obms.badges import Site, keys, profiles, proofs, signatures, statuses
from obms.badges.building import build
from obms.badges.credentials import Kept
from obms.badges.signers import open_signer
from obms.domain import (
    Achievement,
    Credential,
    Evidence,
    Image,
    Issuer,
    JoseName,
    ProofKind,
    Recipient,
    Result,
    StatusEntry,
)
from obms.errors import Invalid
from obms.schema import credentials
from obms.specs import ob3


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
    results: tuple[Result, ...] = ()
    proof: ProofKind = "data-integrity"
    alg: JoseName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A credential with its proof: `document` as it is kept, `text` as it is sent."""

    document: str
    text: str


def hash_recipient(recipient: Recipient) -> Recipient:
    """The recipient as it is published: hashed with a salt where it is to be hashed and is not yet."""
    if not recipient.hashed or recipient.identity.startswith("sha256$"):
        return recipient
    salt = recipient.salt or secrets.token_hex(16)
    digest = hashlib.sha256(f"{recipient.identity}{salt}".encode()).hexdigest()
    return Recipient(type=recipient.type, identity=f"sha256${digest}", hashed=True, salt=salt)


def issue(connection: sa.Connection, site: Site, order: Order, *, key_id: str | None = None) -> str:
    """Issue and keep a signed credential; its id.

    NotFound for the achievement, Invalid for what cannot be signed. `key_id` names another key than
    the one in use.
    """
    achievement = profiles.find_achievement(connection, order.achievement_id)
    issuer = profiles.find_issuer(connection, achievement.issuer_id)
    require_described(order.results, achievement)
    entries = statuses.take_places(connection, site, issuer.id)
    credential = credential_of(str(uuid.uuid4()), order, issuer, achievement, entries)
    key = _key_for(connection, site, issuer.id, order, key_id)
    row = signed_row(site, key, credential, order.proof)
    connection.execute(sa.insert(credentials).values(**row, created_at=site.clock()))
    statuses.add_entries(connection, credential.id, entries)
    return credential.id


def reissue(
    connection: sa.Connection, site: Site, kept: Kept, order: Order, *, key_id: str | None = None
) -> None:
    """Sign a kept credential anew, as it is ordered now; it keeps its id and its places in the lists.

    Invalid where it would go over to another issuer.
    """
    achievement = profiles.find_achievement(connection, order.achievement_id)
    if achievement.issuer_id != kept.issuer_id:
        raise Invalid(badge=["a credential cannot go over to another issuer"])
    issuer = profiles.find_issuer(connection, achievement.issuer_id)
    require_described(order.results, achievement)
    entries = statuses.places_of(connection, kept.id)
    credential = credential_of(kept.id, order, issuer, achievement, entries)
    key = _key_for(connection, site, issuer.id, order, key_id)
    row = signed_row(site, key, credential, order.proof)
    connection.execute(
        sa.update(credentials).where(credentials.c.id == kept.id).values(**row, updated_at=site.clock())
    )


def order_again(
    connection: sa.Connection, kept: Kept, *, proof: ProofKind | None = None, key_id: str | None = None
) -> Order:
    """The order a kept credential was issued by; a token keeps its algorithm, or has that of a named key."""
    extra, proof = kept.extra or {}, proof or kept.proof
    named = key_id or (kept.key_id if proof == kept.proof else "")
    key = keys.read_key(connection, named.rpartition("#")[2])
    return Order(
        achievement_id=kept.achievement_id,
        recipient=Recipient(**kept.recipient),
        issued_at=kept.issued_at,
        expires_at=kept.expires_at,
        evidence=build(Evidence, extra.get("evidence", ())),
        narrative=extra.get("narrative"),
        image=profiles.read_image(extra.get("image")),
        results=build(Result, extra.get("results", ())),
        proof=proof,
        alg=key.jose_name if key else None,
    )


def credential_of(
    id: str, order: Order, issuer: Issuer, achievement: Achievement, entries: tuple[StatusEntry, ...]
) -> Credential:
    return Credential(
        id=id,
        issuer=issuer,
        achievement=achievement,
        recipient=hash_recipient(order.recipient),
        issued_at=order.issued_at.replace(microsecond=0),
        expires_at=order.expires_at.replace(microsecond=0) if order.expires_at else None,
        evidence=order.evidence,
        narrative=order.narrative,
        image=order.image,
        results=order.results,
        statuses=entries,
    )


def require_described(results: tuple[Result, ...], achievement: Achievement) -> None:
    """Invalid for a result that the achievement knows nothing of."""
    known = {description.id for description in achievement.result_descriptions}
    for result in results:
        if result.result_description is not None and result.result_description not in known:
            raise Invalid(results=[f"the achievement describes no result {result.result_description}"])


def _key_for(
    connection: sa.Connection, site: Site, issuer_id: str, order: Order, key_id: str | None
) -> keys.SigningKey:
    return keys.choose_key(connection, site, issuer_id, keys.algorithm_for(order.proof, order.alg), key_id)


def signed_row(site: Site, key: keys.SigningKey, credential: Credential, proof: ProofKind) -> dict[str, Any]:
    """The row of a credential, signed; Invalid for what cannot be."""
    return credential_row(credential, key.id, proof, sign(site, key, credential, proof).document)


def sign(site: Site, key: keys.SigningKey, credential: Credential, proof: ProofKind) -> Signed:
    """The credential signed; its signature was verified once, by the public key."""
    document, signer = ob3.credential_document(credential, site.base_url, site.named), open_signer(site, key)
    try:
        if proof == "jwt":
            token, text = proofs.make_credential_token(document, signer)
            signatures.check_made(token, signer.alg, key.public_pem)
            return Signed(document=token, text=text)
        signed = proofs.add_proof(document, signer, site.clock())
        signatures.check(signed, proof, key.public_pem)
    except (proofs.CannotBeSigned, signatures.BadSignature) as error:
        # What JSON-LD reads otherwise than JSON (an id that is no IRI, two things of one id) must not go out.
        raise Invalid(credential=[f"cannot be signed as it stands: {error}"]) from error
    return Signed(document=signed, text=signed)


def _members(recipient: Recipient) -> dict[str, Any]:
    """As asdict, which copies what is in it too."""
    return {field.name: getattr(recipient, field.name) for field in fields(recipient)}


def credential_row(credential: Credential, key_id: str, proof: ProofKind, document: str) -> dict[str, Any]:
    """The row of a credential, all but the time of its making."""
    extra = profiles.present(
        {"narrative": credential.narrative, "image": profiles.image_json(credential.image)}
    )
    if credential.evidence:
        extra["evidence"] = [profiles.present(asdict(evidence)) for evidence in credential.evidence]
    if credential.results:
        extra["results"] = [profiles.present(asdict(result)) for result in credential.results]
    return {
        "id": credential.id,
        "issuer_id": credential.issuer.id,
        "achievement_id": credential.achievement.id,
        "key_id": key_id,
        "proof": proof,
        "document": document,
        "recipient": profiles.present(_members(credential.recipient)),
        "extra": extra or None,
        "issued_at": credential.issued_at,
        "expires_at": credential.expires_at,
    }
