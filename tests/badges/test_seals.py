"""The seal on signing keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obms.badges import Seal
from obms.errors import KeyDamaged, KeyMissing


@given(plain=st.binary(max_size=200), context=st.text(max_size=50))
def test_what_was_sealed_opens_again(plain: bytes, context: str) -> None:
    seal = Seal("secret")
    assert seal.open(seal.seal(plain, context), context) == plain


def test_another_secret_does_not_open_and_both_fingerprints_are_named() -> None:
    with pytest.raises(KeyMissing) as missing:
        Seal("other").open(Seal("secret").seal(b"key", "k1"), "k1")
    assert Seal("secret").fingerprint in str(missing.value)
    assert Seal("other").fingerprint in str(missing.value)
    assert missing.value.exit_code == 10


def test_a_key_sealed_for_one_id_does_not_open_for_another() -> None:
    seal = Seal("secret")
    with pytest.raises(KeyDamaged):
        seal.open(seal.seal(b"key", "k1"), "k2")


@pytest.mark.parametrize("place", range(9, 45))
def test_each_flipped_byte_behind_the_fingerprint_is_found(place: int) -> None:
    seal = Seal("secret")
    sealed = bytearray(seal.seal(b"key" * 3, "k1"))
    place %= len(sealed)
    sealed[place] ^= 1
    with pytest.raises((KeyDamaged, KeyMissing)) if place in range(1, 9) else pytest.raises(KeyDamaged):
        seal.open(bytes(sealed), "k1")


def test_the_fingerprint_reveals_nothing_of_the_secret_and_the_repr_shows_only_it() -> None:
    seal = Seal("secret")
    assert len(seal.fingerprint) == 16
    assert "secret" not in repr(seal)
