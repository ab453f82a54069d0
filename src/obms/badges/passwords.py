"""Passwords: kept as argon2id hashes, and compared in the same time whether there is a user or not."""

from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

# OWASP's parameters for argon2id: 19 MiB, two passes. Each at work takes that memory, so few may be.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_turns = BoundedSemaphore(2)
# What the password of nobody is compared with: a hash by these parameters, made once, for to make one
# takes as long as to start many a command.
_OF_NOBODY = (
    "$argon2id$v=19$m=19456,t=2,p=1$MQD0rXbicvc4R/7rxv4yNA$o6WTgMhqPnz3FWuvSaJY59wzFT4mZlIUnaFNHdWuNFA"
)


def hash_password(password: str) -> str:
    with _turns:
        return _hasher.hash(password)


def is_right(password: str, kept: str | None) -> bool:
    """Whether it is the password; without a hash it takes as long, and is not."""
    with _turns:
        try:
            _hasher.verify(kept or _OF_NOBODY, password)
        except (Argon2Error, InvalidHashError):
            return False
    return kept is not None
