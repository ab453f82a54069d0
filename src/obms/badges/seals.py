"""The seal on signing keys: a key derived from SECRET_KEY that a backup alone cannot yield."""

import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from obms.errors import KeyDamaged, KeyMissing

FORMAT = b"\x01"
FINGERPRINT_SIZE = 8
NONCE_SIZE = 12
HEAD_SIZE = len(FORMAT) + FINGERPRINT_SIZE + NONCE_SIZE


def _derive(secret: str, purpose: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=purpose).derive(secret.encode())


class Seal:
    """Seals and opens with one secret; two seals are equal when their secrets are.

    A sealed text is: format, fingerprint of the seal, nonce, ciphertext with its tag. The
    fingerprint is derived apart from the key, so that it may stand in logs and manifests.
    """

    __slots__ = ("_cipher", "_mark", "_root")

    def __init__(self, secret: str) -> None:
        self._cipher = ChaCha20Poly1305(_derive(secret, b"obms sealing key 1", 32))
        self._mark = _derive(secret, b"obms fingerprint 1", FINGERPRINT_SIZE)
        self._root = _derive(secret, b"obms derivation root 1", 32).hex()

    def __repr__(self) -> str:
        return f"Seal({self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal characters that name the secret and reveal nothing of it."""
        return self._mark.hex()

    def derive(self, purpose: str, length: int) -> bytes:
        """Bytes that only the holder of the secret can make, the same each time."""
        return _derive(self._root, purpose.encode(), length)

    def seal(self, plain: bytes, context: str, *, nonce: bytes | None = None) -> bytes:
        """Seal for one context (the id of the key), outside of which it does not open.

        `nonce` is for seeding alone, where each run must give the same bytes.
        """
        nonce = nonce or secrets.token_bytes(NONCE_SIZE)
        return FORMAT + self._mark + nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """What was sealed. KeyMissing if it was with another secret, KeyDamaged if it was changed."""
        mark = sealed[len(FORMAT) : len(FORMAT) + FINGERPRINT_SIZE]
        if not hmac.compare_digest(mark, self._mark):
            raise KeyMissing(
                detail=f"the key {context} was sealed with the SECRET_KEY of fingerprint {mark.hex()}, "
                f"and this one has {self.fingerprint}"
            )
        try:
            nonce = sealed[HEAD_SIZE - NONCE_SIZE : HEAD_SIZE]
            return self._cipher.decrypt(nonce, sealed[HEAD_SIZE:], context.encode())
        except (InvalidTag, ValueError) as error:
            raise KeyDamaged(id=context) from error
