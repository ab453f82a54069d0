"""RSA keys that come from a secret, the same each time: a library makes them by chance only."""

import math
from collections.abc import Callable
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicNumbers,
    rsa_crt_dmp1,
    rsa_crt_dmq1,
    rsa_crt_iqmp,
)

from obms.badges.keys import RSA_BITS, RSA_EXPONENT

PRIME_BYTES = RSA_BITS // 16
WINDOW = 4096
SIEVED = tuple(n for n in range(3, 8192, 2) if all(n % d for d in range(3, math.isqrt(n) + 1, 2)))
# A number drawn by chance that passes these is a prime, but for one in more than 2 ** 80.
BASES = SIEVED[:12]


def make_rsa(derive: Callable[[str, int], bytes], purpose: str) -> RSAPrivateKey:
    """The key of a purpose; `derive` gives secret bytes for it."""
    p, q = sorted((_prime(derive(f"{purpose}/{name}", PRIME_BYTES)) for name in "pq"), reverse=True)
    d = pow(RSA_EXPONENT, -1, math.lcm(p - 1, q - 1))
    numbers = RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=rsa_crt_dmp1(d, p),
        dmq1=rsa_crt_dmq1(d, q),
        iqmp=rsa_crt_iqmp(p, q),
        public_numbers=RSAPublicNumbers(RSA_EXPONENT, p * q),
    )
    return numbers.private_key()


@lru_cache(maxsize=64)
def _prime(start: bytes) -> int:
    """The next prime; its two highest bits are set, so that a product of two has all of its bits."""
    first = int.from_bytes(start) | 3 << (8 * len(start) - 2) | 1
    while True:
        for number in _unsieved(first):
            if math.gcd(number - 1, RSA_EXPONENT) == 1 and _is_prime(number):
                return number
        first += 2 * WINDOW


def _unsieved(first: int) -> list[int]:
    """Of the odd numbers from `first` on those that no small prime divides."""
    composite = bytearray(WINDOW)
    for prime in SIEVED:
        begin = -first * pow(2, -1, prime) % prime
        composite[begin::prime] = b"\x01" * len(range(begin, WINDOW, prime))
    return [first + 2 * place for place in range(WINDOW) if not composite[place]]


def _is_prime(number: int) -> bool:
    """Miller and Rabin's test."""
    twos = (number - 1 & 1 - number).bit_length() - 1
    odd = number - 1 >> twos
    return all(_passes(number, base, odd, twos) for base in BASES)


def _passes(number: int, base: int, odd: int, twos: int) -> bool:
    power = pow(base, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False
