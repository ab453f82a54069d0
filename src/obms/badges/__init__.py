"""What the server does with badges: functions over a Connection, and the things that issuing needs."""

from dataclasses import dataclass

from obms.badges.seals import Seal
from obms.errors import KeyMissing
from obms.observe import Clock

__all__ = ["Seal", "Site"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where badges say they are from, what opens the signing keys, and what time it is.

    `base_url` has no slash at its end. Without a seal everything can be read and verified, and
    nothing can be signed.
    """

    base_url: str
    seal: Seal | None
    clock: Clock

    def require_seal(self) -> Seal:
        """The seal, or KeyMissing."""
        if self.seal is None:
            raise KeyMissing(detail="SECRET_KEY is not set, so no signing key can be opened")
        return self.seal
