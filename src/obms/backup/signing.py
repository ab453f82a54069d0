"""Signatures of manifests and verdicts: who holds SECRET_KEY can make them, anybody can check them."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SEED_PURPOSE = "backup signature 1"
SEED_SIZE = 32


class Signer:
    """Signs with the key of this seed; `public` is its public key, in hexadecimal."""

    __slots__ = ("_private", "public")

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw().hex()

    def __repr__(self) -> str:
        return f"Signer({self.public})"

    def sign(self, statement: bytes) -> str:
        return self._private.sign(statement).hex()


def is_signature(public: str, signature: str, statement: bytes) -> bool:
    """Whether the holder of the private key signed this; anything that is no key or no signature is none."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), statement)
    except (InvalidSignature, ValueError):
        return False
    return True
