"""Tokens read without the library: what is read is what it reads, and what is odd is left to it."""

import base64
import json
from collections.abc import Callable

import jwt
import pytest

from obms.badges import compact, keys, proofs, signatures
from obms.badges.keys import PrivateKey
from obms.badges.signers import HeldKey
from obms.specs import Json

PRIVATE: dict[str, PrivateKey] = {
    "EdDSA": keys.new_private(keys.ED25519),
    "RS256": keys.new_private(keys.RSA),
}
CLAIMS: Json = {"id": "urn:uuid:1", "name": "Höhere 📊 Schule?>~", "jti": "urn:uuid:1"}


def token(alg: str) -> str:
    return proofs.make_token(CLAIMS, HeldKey(alg=alg, kid="did:web:x#1", private=PRIVATE[alg]))


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize("alg", PRIVATE)
def test_a_token_of_ours_is_read_and_checked_as_the_library_does(alg: str) -> None:
    made, public = token(alg), PRIVATE[alg].public_key()
    assert compact.check(made, public, alg) == jwt.decode(made, public, algorithms=[alg]) == CLAIMS
    assert compact.read(made) == CLAIMS
    for other in PRIVATE:
        if other != alg:
            assert compact.check(made, public, other) is None
    stranger = keys.new_private(keys.RSA if alg == "RS256" else keys.ED25519).public_key()
    assert compact.check(made, stranger, alg) is None


@pytest.mark.parametrize("alg", PRIVATE)
def test_a_change_anywhere_is_no_token_of_ours(alg: str) -> None:
    made, public = token(alg), PRIVATE[alg].public_key()
    for place in range(0, len(made) - 1, 7):
        changed = made[:place] + ("A" if made[place] != "A" else "B") + made[place + 1 :]
        assert compact.check(changed, public, alg) is None


HEAD = {"alg": "EdDSA", "kid": "k", "typ": "JWT"}
ODD: dict[str, Callable[[str, str, str], str]] = {
    "another member": lambda _head, body, end: (
        f"{encoded(HEAD | {'crit': ['b64'], 'b64': False})}.{body}.{end}"
    ),
    "no typ": lambda _head, body, end: f"{encoded({'alg': 'EdDSA', 'kid': 'k'})}.{body}.{end}",
    "a number for a text": lambda _head, body, end: f"{encoded(HEAD | {'kid': 1})}.{body}.{end}",
    "a list in it": lambda head, _body, end: f"{head}.{encoded([1])}.{end}",
    "no JSON": lambda head, _body, end: f"{head}.AAAA.{end}",
    "padding": lambda head, body, end: f"{head}.{body}.{end}==",
    "the other alphabet": lambda head, body, end: f"{head}.{body}.{end[:-1]}+",
    "four parts": lambda head, body, end: f"{head}.{body}.{end}.{end}",
    "two parts": lambda head, body, _end: f"{head}.{body}",
    "other letters": lambda head, body, end: f"{head}.{body}.{end}é",
    "a line's end": lambda head, body, end: f"{head}.{body}.{end}\n",
    "too deep": lambda head, _body, end: f"{head}.{_deep()}.{end}",
}


def _deep() -> str:
    return base64.urlsafe_b64encode(b"[" * 100_000).decode().rstrip("=")


@pytest.mark.parametrize("odd", ODD)
def test_what_is_odd_is_for_the_library_to_tell_of(odd: str) -> None:
    made = ODD[odd](*token("EdDSA").split("."))
    assert compact.read(made) is None
    assert compact.check(made, PRIVATE["EdDSA"].public_key(), "EdDSA") is None


def test_a_token_with_another_header_is_checked_by_the_library() -> None:
    private = PRIVATE["EdDSA"]
    claims = {"id": "urn:uuid:1", "jti": "urn:uuid:1"}
    made = jwt.encode(claims, private, algorithm="EdDSA")
    assert compact.read(made) is None
    assert signatures.check(made, "jwt", keys.public_pem(private)) == {"id": "urn:uuid:1"}
    assert signatures.read(made, "jwt") == {"id": "urn:uuid:1"}
