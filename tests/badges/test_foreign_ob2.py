"""Assertions of Open Badges 2.0 of other issuers: who speaks for which address, and whose key it is."""

import json
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from obms.badges.inquiry import Report
from obms.badges.keys import public_pem
from tests.answering import Answer, Answering, answering
from tests.badges.foreigners import judge

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CONTEXT = "https://w3id.org/openbadges/v2"


class World:
    """An issuer with one badge; each document can be changed before it is judged."""

    def __init__(self, server: Answering) -> None:
        self.server = server
        self.site = server.address
        self.issuer: dict[str, Any] = {
            "id": f"{self.site}/issuer",
            "type": "Issuer",
            "name": "n",
            "publicKey": f"{self.site}/key",
            "revocationList": f"{self.site}/revocations",
        }
        self.badge: dict[str, Any] = {
            "id": f"{self.site}/badge",
            "type": "BadgeClass",
            "name": "n",
            "description": "d",
            "criteria": {"narrative": "n"},
            "issuer": f"{self.site}/issuer",
        }
        self.key = {
            "id": f"{self.site}/key",
            "type": "CryptographicKey",
            "owner": f"{self.site}/issuer",
            "publicKeyPem": public_pem(KEY),
        }
        self.assertion: dict[str, Any] = {
            "@context": CONTEXT,
            "type": "Assertion",
            "id": f"{self.site}/assertion",
            "recipient": {"type": "email", "hashed": False, "identity": "zoë@example.org"},
            "badge": f"{self.site}/badge",
            "verification": {"type": "HostedBadge"},
            "issuedOn": "2026-01-01T00:00:00Z",
        }
        self.revoked: list[Any] = []

    def _serve(self) -> None:
        served = {
            "issuer": self.issuer,
            "badge": self.badge,
            "key": self.key,
            "assertion": self.assertion,
            "revocations": {"type": "RevocationList", "revokedAssertions": self.revoked},
        }
        for name, document in served.items():
            self.server.answers[name] = Answer(body=json.dumps(document).encode())

    def hosted(self, recipient: str | None = None) -> Report:
        self._serve()
        return judge(json.dumps(self.assertion), recipient, allowed=(self.site,))

    def signed(self, *, creator: bool = True) -> Report:
        self._serve()
        verification = {"type": "SignedBadge"} | ({"creator": f"{self.site}/key"} if creator else {})
        token = jwt.encode(self.assertion | {"verification": verification}, KEY, algorithm="RS256")
        return judge(token, allowed=(self.site,))


@pytest.fixture(scope="module")
def server() -> Iterator[Answering]:
    with answering() as found:
        yield found


@pytest.fixture
def world(server: Answering) -> World:
    return World(server)


def test_a_sound_assertion_is_valid_hosted_and_signed(world: World) -> None:
    for report in (world.hosted("zoë@example.org"), world.signed(), world.signed(creator=False)):
        assert report.is_valid, report.findings
        assert report.issuer == f"{world.site}/issuer"
    assert world.hosted("eve@example.org").error_code == "RECIPIENT_MISMATCH"


def test_a_hosted_assertion_stands_where_its_issuer_speaks(world: World) -> None:
    for scope, speaks in (
        ({"startsWith": f"{world.site}/assertion"}, True),
        ({"startsWith": [f"{world.site}/"]}, True),
        ({"startsWith": f"{world.site}/assert"}, False),
        ({"startsWith": world.site[:-1]}, False),
        ({"startsWith": "https://elsewhere.example/"}, False),
        ({"allowedOrigins": "127.0.0.1"}, True),
        ({"allowedOrigins": ["elsewhere.example"]}, False),
        ({}, True),
    ):
        world.issuer["verification"] = scope
        report = world.hosted()
        assert report.is_valid is speaks, (scope, report.findings)


def test_an_issuer_does_not_speak_for_another_server(world: World) -> None:
    """A badge class that names an issuer of good name does not make its host one of theirs."""
    with answering() as other:
        assertion = world.assertion | {"id": f"{other.address}/assertion"}
        other.answers["assertion"] = Answer(body=json.dumps(assertion).encode())
        world.hosted()
        report = judge(json.dumps(assertion), allowed=(world.site, other.address))
    assert report.error_code == "INVALID_SIGNATURE"
    assert "does not speak" in (report.gravest.detail if report.gravest else "")


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("key", {"owner": "https://elsewhere.example/"}),
        ("key", {"id": "https://elsewhere.example/"}),
        ("key", {"publicKeyPem": "none"}),
        ("issuer", {"publicKey": "https://elsewhere.example/"}),
        ("issuer", {"publicKey": None}),
    ],
)
def test_a_key_and_its_issuer_name_each_other(world: World, part: str, change: dict[str, Any]) -> None:
    getattr(world, part).update(change)
    report = world.signed()
    assert not report.passed("signature")
    assert report.error_code in ("ISSUER_KEY_NOT_FOUND", "INVALID_SIGNATURE")


def test_a_signed_assertion_is_signed_by_that_key_and_has_its_signature(world: World) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    world.key["publicKeyPem"] = public_pem(other)
    assert world.signed().error_code == "INVALID_SIGNATURE"
    world.assertion["verification"] = {"type": "SignedBadge", "creator": f"{world.site}/key"}
    assert world.hosted().error_code == "INVALID_SIGNATURE"


def test_a_revoked_assertion_is_told_by_the_list_or_by_its_address(world: World) -> None:
    world.revoked = [{"id": f"{world.site}/assertion", "revocationReason": "Irrtum"}]
    assert world.signed().error_code == "CREDENTIAL_REVOKED"
    assert world.hosted().error_code == "CREDENTIAL_REVOKED"
    world.revoked = [f"{world.site}/assertion"]
    assert world.signed().error_code == "CREDENTIAL_REVOKED"
    world.revoked = []
    sound = json.dumps(world.assertion)
    world.assertion["revoked"] = True
    world.hosted()
    assert judge(sound, allowed=(world.site,)).error_code == "CREDENTIAL_REVOKED"


def test_an_assertion_that_has_ended_is_still_asked_for_its_revocation(world: World) -> None:
    world.assertion["expires"] = "2026-02-01T00:00:00Z"
    report = world.hosted()
    assert (report.error_code, report.passed("signature")) == ("CREDENTIAL_EXPIRED", True)
    world.revoked = [f"{world.site}/assertion"]
    assert world.hosted().error_code == "CREDENTIAL_REVOKED"


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("badge", {"type": "Novel"}),
        ("badge", {"name": None}),
        ("badge", {"id": "https://elsewhere.example/"}),
        ("badge", {"issuer": None}),
        ("issuer", {"id": "https://elsewhere.example/"}),
        ("issuer", {"name": None}),
        ("assertion", {"recipient": "zoë"}),
        ("assertion", {"issuedOn": "yesterday"}),
    ],
)
def test_a_circle_that_is_not_whole_is_told(world: World, part: str, change: dict[str, Any]) -> None:
    getattr(world, part).update(change)
    report = world.hosted()
    assert (report.is_valid, report.error_code) == (False, "INVALID_SCHEMA")
