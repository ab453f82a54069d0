"""From what a client sends to what is issued."""

from obms.app import Server
from obms.badges.issuing import Order
from obms.web.context import read_reference
from obms.web.models import CredentialBody


def order_of(server: Server, body: CredentialBody) -> Order:
    return Order(
        achievement_id=read_reference(server, "badge", body.badge),
        recipient=body.recipient.to_domain(),
        issued_at=body.issued_on,
        expires_at=body.expires,
        evidence=tuple(evidence.to_domain() for evidence in body.evidence),
        narrative=body.narrative,
        image=body.image.to_domain() if body.image else None,
        proof=body.proof,
        alg=body.alg,
    )
