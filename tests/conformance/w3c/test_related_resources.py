"""Resources named with a digest: VC data model 2.0, section 5.3, and the digest in its appendix B.1."""

import base64
import hashlib
from typing import Any

import pytest

from obms.badges.related import AT_HAND, content_of
from tests.conformance.w3c.test_proof_sets import ISSUER, V2, document, proof
from tests.web.conftest import Client

CONTENT = content_of(V2) or b""
SHA256 = hashlib.sha256(CONTENT).digest()
SRI = "sha384-" + base64.b64encode(hashlib.sha384(CONTENT).digest()).decode()
MULTIBASE = "u" + base64.urlsafe_b64encode(b"\x12\x20" + SHA256).decode().rstrip("=")
ELSEWHERE = "https://example.org/image.png"


def told(client: Client, *resources: object) -> dict[str, Any]:
    plain = document(relatedResource=list(resources))
    held = {**plain, "proof": proof(plain, ISSUER)}
    answer = client.post("/vc/credentials/verify", {"verifiableCredential": held}, key=None)
    found: dict[str, Any] = answer.json()
    return found


def test_the_context_is_at_hand_as_it_was_published() -> None:
    assert SHA256.hex() == "59955ced6697d61e03f2b2556febe5308ab16842846f5b586d7f1f7adec92734"
    assert all(content_of(url) for url in AT_HAND)


@pytest.mark.parametrize(
    "digest",
    [
        {"digestSRI": SRI},
        {"digestMultibase": MULTIBASE},
        {"digestMultibase": "u" + base64.urlsafe_b64encode(SHA256).decode()},
        {"digestSRI": SRI, "digestMultibase": MULTIBASE},
    ],
)
def test_a_digest_that_is_right_is_found_right(client: Client, digest: dict[str, str]) -> None:
    found = told(client, {"id": V2, **digest})
    assert (found["verified"], found["warnings"]) == (True, [])


@pytest.mark.parametrize(
    "digest",
    [
        {"digestSRI": "sha384-" + "A" * 64},
        {"digestMultibase": "uM4RgWQc3RUDtjJCSgTJtTfvpZ7SPEg_LNO0ESlovQC0"},
        {"digestMultibase": "z" + "1" * 32},
        {"digestMultibase": "z0"},
        {"digestSRI": SRI, "digestMultibase": "uAAAA"},
        {"digestSRI": "md5-AAAA"},
        {"digestMultibase": "xyz"},
    ],
)
def test_a_digest_that_is_another_is_an_error(client: Client, digest: dict[str, str]) -> None:
    found = told(client, {"id": V2, **digest})
    assert not found["verified"]
    assert [error["detail"] for error in found["errors"]] == [f"relatedResource: {V2} has another digest"]


def test_what_is_not_at_hand_is_not_fetched_and_a_warning_says_so(client: Client) -> None:
    found = told(client, {"id": ELSEWHERE, "digestSRI": SRI})
    assert (found["verified"], found["warnings"]) == (True, [f"the digest of {ELSEWHERE} was not compared"])


@pytest.mark.parametrize(
    "resources",
    [
        [V2],
        [{"digestMultibase": MULTIBASE}],
        [{"id": "image.png", "digestMultibase": MULTIBASE}],
        [{"id": V2}],
        [{"id": V2, "digestSRI": ""}],
        [{"id": V2, "digestSRI": SRI}, {"id": V2, "digestMultibase": MULTIBASE}],
    ],
)
def test_a_resource_needs_an_id_of_its_own_and_a_digest(
    client: Client, issuer: str, resources: list[object]
) -> None:
    body = {"credential": {**document(relatedResource=resources), "issuer": issuer}}
    assert client.post("/vc/credentials/issue", body).status_code == 400
    body["credential"]["relatedResource"] = {"id": V2, "digestSRI": SRI}
    assert client.post("/vc/credentials/issue", body).status_code == 201
