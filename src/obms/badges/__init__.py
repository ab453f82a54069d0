"""What the server does with badges: functions over a Connection, and the things that issuing needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from obms.badges.seals import Seal
from obms.domain import REVOCATION, Purpose
from obms.errors import KeyMissing
from obms.observe import Clock

__all__ = ["Seal", "Signer", "Site"]


class Signer(Protocol):
    """Signs as one key, wherever its private part is: in this process, a hardware module, another machine."""

    @property
    def alg(self) -> str:
        """`EdDSA` or `RS256`."""

    @property
    def kid(self) -> str:
        """The URL of the verification method."""

    def sign(self, signing_input: bytes) -> bytes:
        """The signature as JOSE writes it: 64 bytes of Ed25519, or PKCS #1 v1.5 over SHA-256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where badges say they are from, what opens the signing keys, and what time it is.

    `base_url` has no slash at its end. Without a seal everything can be read and verified, and
    nothing can be signed but by keys whose private part is kept elsewhere: `signers`, by their ids.
    `named` are the places that a badge names, of those that it has.
    """

    base_url: str
    seal: Seal | None
    clock: Clock
    signers: Mapping[str, Signer] = field(default_factory=dict)
    named: tuple[Purpose, ...] = (REVOCATION,)

    def require_seal(self) -> Seal:
        """The seal, or KeyMissing."""
        if self.seal is None:
            raise KeyMissing(detail="SECRET_KEY is not set, so no signing key can be opened")
        return self.seal
