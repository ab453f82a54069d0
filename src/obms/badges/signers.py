"""Who signs: a private part that this process holds open, or one that is kept elsewhere."""

from dataclasses import dataclass
from functools import lru_cache

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from obms.badges import Signer, Site
from obms.badges.keys import PrivateKey, SigningKey, unseal
from obms.errors import KeyMissing

# Opening a key takes longer than signing with it.
OPEN_KEYS = 1024
HINT = "See whether what SIGNERS names can reach the key."


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldKey:
    """A key whose private part is open in this process."""

    alg: str
    kid: str
    private: PrivateKey

    def __repr__(self) -> str:
        return f"HeldKey({self.kid})"

    def sign(self, signing_input: bytes) -> bytes:
        if isinstance(self.private, Ed25519PrivateKey):
            return self.private.sign(signing_input)
        return self.private.sign(signing_input, PKCS1v15(), SHA256())


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptElsewhere:
    """A key whose private part is not here: what its signer gives is verified before it is used."""

    signer: Signer
    public_pem: str

    @property
    def alg(self) -> str:
        return self.signer.alg

    @property
    def kid(self) -> str:
        return self.signer.kid

    def sign(self, signing_input: bytes) -> bytes:
        """KeyMissing for what is no signature by this key."""
        found = self.signer.sign(signing_input)
        algorithm = jwt.get_algorithm_by_name(self.alg)
        if not algorithm.verify(signing_input, algorithm.prepare_key(self.public_pem), found):
            raise KeyMissing(detail=f"the signer of {self.kid} gave what is no signature by it", hint=HINT)
        return found


def open_signer(site: Site, key: SigningKey) -> Signer:
    """The signer of a key: one kept elsewhere where the site has it, else the sealed row, opened.

    KeyMissing without the SECRET_KEY that it was sealed with.
    """
    if elsewhere := site.signers.get(key.id):
        return KeptElsewhere(signer=elsewhere, public_pem=key.public_pem)
    return HeldKey(alg=key.jose_name, kid=key.method(site.base_url), private=_open(site.require_seal(), key))


# The keys stay open for as long as the process lives; a row that is changed is another key here.
_open = lru_cache(maxsize=OPEN_KEYS)(unseal)
