"""Somebody who endorses, with a key of their own that is in their name."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from openbadgeslib.ob3 import add_data_integrity_proof, did_key_from_pem

from obms.badges.keys import private_pem, public_pem

CONTEXT = [
    "https://www.w3.org/ns/credentials/v2",
    "https://purl.imsglobal.org/spec/ob/v3p0/context-3.0.3.json",
]


@dataclass(frozen=True)
class Endorser:
    """A `did:key`."""

    private: Ed25519PrivateKey

    @cached_property
    def did(self) -> str:
        return did_key_from_pem(public_pem(self.private))

    @property
    def method(self) -> str:
        return f"{self.did}#{self.did.removeprefix('did:key:')}"

    def says(self, achievement: str, **more: object) -> dict[str, Any]:
        """An endorsement without a proof."""
        return {
            "@context": CONTEXT,
            "id": "urn:uuid:44444444-4444-4444-8444-444444444444",
            "type": ["VerifiableCredential", "EndorsementCredential"],
            "name": "Empfehlung",
            "issuer": {"id": self.did, "type": ["Profile"], "name": "Ämt für Güte"},
            "validFrom": "2026-01-01T00:00:00Z",
            "credentialSubject": {
                "id": achievement,
                "type": ["EndorsementSubject"],
                "endorsementComment": "Sehr gut 👍",
            },
            **more,
        }

    def signs(self, achievement: str, **more: object) -> dict[str, Any]:
        said = self.says(achievement, **more)
        return dict(add_data_integrity_proof(said, private_pem(self.private), self.method))

    def token(self, achievement: str) -> str:
        said = self.says(achievement)
        return jwt.encode(said, self.private, algorithm="EdDSA", headers={"kid": self.method})


def endorser() -> Endorser:
    return Endorser(Ed25519PrivateKey.generate())
