"""Badges of other issuers: sound ones are valid in every form, and each check says no to its own fault."""

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obms.badges import baking, images
from obms.badges.baking import Badge
from obms.badges.images import Picture
from obms.badges.inquiry import Report
from obms.badges.keys import public_pem
from tests.answering import Answer, Answering, answering
from tests.badges import pictures
from tests.badges.foreigners import (
    DID,
    KEY,
    METHOD,
    NOW,
    as_token,
    credential,
    entry,
    judge,
    status_list,
    with_proof,
)

PROVEN = with_proof(credential())
TOKEN = as_token(credential())
ASSERTION = {
    "@context": "https://w3id.org/openbadges/v2",
    "type": "Assertion",
    "id": "https://elsewhere.example/v2/1",
    "recipient": {"type": "email", "hashed": False, "identity": "zoë@example.org"},
    "badge": "https://elsewhere.example/v2/b",
    "verification": {"type": "HostedBadge"},
    "issuedOn": "2026-01-01T00:00:00Z",
}


def failed(report: Report) -> list[str]:
    assert not report.is_valid
    return [each.name for each in report.findings if each.ok is False]


@pytest.fixture(scope="module")
def web() -> Iterator[Answering]:
    with answering() as server:
        yield server


@pytest.mark.parametrize("text", [PROVEN, TOKEN], ids=["proof", "token"])
@pytest.mark.parametrize("form", ["text", "png", "svg", "data"])
def test_a_sound_badge_is_valid_in_every_form(text: str, form: str) -> None:
    content = text.encode()
    if form != "text":
        kind, plain = (images.SVG, pictures.PLAIN_SVG) if form == "svg" else (images.PNG, pictures.raster())
        picture = Picture(media_type=kind, content=plain)
        content = baking.bake(picture, Badge(version="3.0", text=text))
    if form == "data":
        content = b"data:image/png;base64," + base64.b64encode(content)
    report = judge(content, "zoë@example.org")
    assert report.is_valid, report.findings
    assert [each.name for each in report.findings] == [
        "format",
        "schema",
        "issuer key",
        "signature",
        "expiry",
        "status",
        "recipient",
    ]
    assert (report.issuer, report.method, report.error_code) == (DID, METHOD, None)


@pytest.mark.parametrize(
    ("change", "name", "code"),
    [
        ({"type": ["VerifiableCredential"]}, "schema", "INVALID_SCHEMA"),
        ({"id": None}, "schema", "INVALID_SCHEMA"),
        ({"validFrom": None}, "schema", "INVALID_SCHEMA"),
        ({"credentialSubject": []}, "schema", "INVALID_SCHEMA"),
        ({"issuer": None}, "schema", "INVALID_SCHEMA"),
        ({"validUntil": "2026-02-01T00:00:00Z"}, "expiry", "CREDENTIAL_EXPIRED"),
        ({"validFrom": "2026-07-01T00:00:00Z"}, "expiry", "CREDENTIAL_NOT_YET_VALID"),
        ({"validUntil": "2036-02-01T00:00:00"}, "expiry", "INVALID_SCHEMA"),
        ({"credentialStatus": {"id": "https://a.example/1", "type": "Novel"}}, "status", "STATUS_UNKNOWN"),
        ({"credentialStatus": entry("https://gone.example/1")}, "status", "STATUS_UNKNOWN"),
        ({"credentialStatus": ["https://a.example/1"]}, "status", "STATUS_UNKNOWN"),
        ({"issuer": {"id": "did:web:gone.example", "name": "x"}}, "issuer key", "ISSUER_KEY_NOT_FOUND"),
        ({"issuer": {"id": "did:novel:1", "name": "x"}}, "issuer key", "ISSUER_KEY_NOT_FOUND"),
        ({"issuer": {"id": "https://a.example/", "name": "x"}}, "issuer key", "ISSUER_KEY_NOT_FOUND"),
    ],
)
def test_a_fault_fails_the_check_of_its_name(change: dict[str, Any], name: str, code: str) -> None:
    claims = {"jti": change["id"]} if "id" in change else {}
    issuer = change.get("issuer", {"id": DID})
    report = judge(as_token(credential(**change), iss=issuer and issuer["id"], **claims))
    assert name in failed(report)
    assert report.error_code == code


@pytest.mark.parametrize("text", [PROVEN, TOKEN], ids=["proof", "token"])
def test_a_badge_for_somebody_else_is_not_valid(text: str) -> None:
    report = judge(text, "eve@example.org")
    assert failed(report) == ["recipient"]
    assert report.error_code == "RECIPIENT_MISMATCH"


def test_a_context_that_is_not_known_is_named_and_not_fetched(web: Answering) -> None:
    unknown = f"{web.address}/context.json"
    document = json.loads(PROVEN)
    document["@context"].append(unknown)
    report = judge(json.dumps(document), allowed=(web.address,))
    assert failed(report)[0] == "schema"
    assert unknown in (report.gravest.detail if report.gravest else "")
    assert web.asked == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("zoë@example.org", "eve@example.org"),
        ("Náme", "Better"),
        ("2026-01-01", "2025-01-01"),
        ('"validFrom"', '"validUntil": "2036-01-01T00:00:00Z", "validFrom"'),
        ('"proof"', '"evidence": [{"id": "https://a.example/", "type": ["Evidence"]}], "proof"'),
        ("eddsa-rdfc-2022", "eddsa-jcs-2022"),
        ("assertionMethod", "authentication"),
        ('"proofValue": "z', '"proofValue": "z1'),
    ],
)
def test_a_changed_document_has_no_valid_signature(old: str, new: str) -> None:
    assert old in PROVEN
    report = judge(PROVEN.replace(old, new))
    assert not report.is_valid
    assert not report.passed("signature")


def test_a_token_is_bound_to_the_issuer_its_key_and_its_claims() -> None:
    other = DID[:-6] + "AAAAAA"
    header, payload, signature = TOKEN.split(".")
    forged = jwt.encode(credential(), "0" * 40, algorithm="HS256", headers={"kid": METHOD})
    confused = jwt.encode(credential(), public_pem(KEY)[28:70], algorithm="HS256", headers={"kid": METHOD})
    none = jwt.encode(credential() | {"iss": DID}, "", algorithm="none", headers={"kid": METHOD})
    for text in (
        as_token(credential(), header={"kid": f"{other}#x"}),
        as_token(credential(), header={"kid": "https://elsewhere.example/key"}),
        as_token(credential(), iss=other),
        as_token(credential(), iss=None),
        as_token(credential(), jti="urn:uuid:1"),
        as_token(credential(), sub="mailto:eve@example.org"),
        f"{header}.{payload[:-4]}AAAA.{signature}",
        f"{header}.{payload}.AAAA",
        forged,
        confused,
        none,
    ):
        assert not judge(text).passed("signature"), text
    assert judge(as_token(credential(), header={})).is_valid
    assert judge(as_token(credential(), exp=1767225601)).error_code == "CREDENTIAL_EXPIRED"


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
def test_an_issuer_may_be_a_did_jwk(algorithm: str) -> None:
    key = KEY if algorithm == "EdDSA" else ec.generate_private_key(ec.SECP256R1())
    public = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key())
    name = "did:jwk:" + base64.urlsafe_b64encode(str(public).encode()).decode().rstrip("=")

    def token(issuer: str, kid: str) -> str:
        document = credential(issuer={"id": issuer, "type": ["Profile"], "name": "Elsewhere"})
        return jwt.encode({**document, "iss": issuer}, key, algorithm=algorithm, headers={"kid": kid})

    assert judge(token(name, f"{name}#0")).is_valid
    for issuer, kid in ((name, f"{name}#1"), (DID, f"{name}#0"), (name[:-9], f"{name}#0"), ("did:jwk:", "")):
        report = judge(token(issuer, kid))
        assert failed(report)[0] == "issuer key", (issuer, kid)


def test_the_list_of_the_issuer_is_asked_and_believed(web: Answering) -> None:
    url = f"{web.address}/list"
    for bits, code in (((), None), ((4, 6), None), ((5,), "CREDENTIAL_REVOKED")):
        web.answers["list"] = status_list(url, *bits)
        report = judge(as_token(credential(credentialStatus=entry(url))), allowed=(web.address,))
        assert report.error_code == code, report.findings
        assert report.passed("signature")
    web.answers["list"] = status_list(url, 5, purpose="suspension")
    suspended = credential(credentialStatus=entry(url, statusPurpose="suspension"))
    assert judge(with_proof(suspended), allowed=(web.address,)).error_code == "CREDENTIAL_SUSPENDED"
    web.answers["list"] = status_list(url, 5, purpose="message")
    told = credential(credentialStatus=entry(url, statusPurpose="message"))
    assert judge(as_token(told), allowed=(web.address,)).is_valid


def encoded(answer: Answer) -> bytes:
    """The bits of a list, as they stand in it."""
    return str(json.loads(answer.body)["credentialSubject"]["encodedList"]).encode()


def test_a_list_that_tells_nothing_leaves_the_status_unknown(web: Answering) -> None:
    url = f"{web.address}/list"
    sound = status_list(url)
    answers = [
        Answer(status=404),
        Answer(body=b"{}"),
        Answer(body=b"\xff"),
        Answer(body=sound.body.replace(b'"u', b'"uAAAA')),
        Answer(body=sound.body.replace(b'"proof"', b'"prof"')),
        Answer(body=sound.body.replace(encoded(sound), encoded(status_list(url, 7)))),
        status_list(f"{web.address}/other"),
        status_list(url, issuer="did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"),
        status_list(url, purpose="suspension"),
        status_list(url, validUntil="2026-02-01T00:00:00Z"),
        status_list(url, validFrom="2026-07-01T00:00:00Z"),
    ]
    for answer in answers:
        web.answers["list"] = answer
        report = judge(as_token(credential(credentialStatus=entry(url))), allowed=(web.address,))
        assert (failed(report), report.error_code) == (["status"], "STATUS_UNKNOWN")
    web.answers["list"] = sound
    for place in ("131072", "-1", "1.5", "", "٣", "9" * 5000):
        report = judge(as_token(credential(credentialStatus=entry(url, place))), allowed=(web.address,))
        assert report.error_code == "STATUS_UNKNOWN"
    for broken in (entry(url, statusSize=2), entry(url, statusPurpose=["revocation"]), [entry(url)] * 9):
        report = judge(as_token(credential(credentialStatus=broken)), allowed=(web.address,))
        assert report.error_code == "STATUS_UNKNOWN"


def test_a_list_of_1edtech_names_those_that_are_revoked(web: Answering) -> None:
    url = f"{web.address}/revoked"
    text = as_token(credential(credentialStatus={"id": url, "type": "1EdTechRevocationList"}))
    for revoked, code in (([], None), ([{"id": "https://elsewhere.example/1"}], "CREDENTIAL_REVOKED")):
        web.answers["revoked"] = Answer(body=json.dumps({"revokedCredential": revoked}).encode())
        assert judge(text, allowed=(web.address,)).error_code == code


def test_an_issuer_with_a_web_address_names_its_key_there(web: Answering) -> None:
    issuer = web.address.replace("http:", "https:") + "/issuer"
    document = credential(issuer={"id": issuer, "type": ["Profile"], "name": "x"})
    multikey = {"type": "Multikey", "controller": issuer, "publicKeyMultibase": DID.removeprefix("did:key:")}
    token = as_token(document, header={"kid": f"{issuer}#1"}, iss=issuer)
    for keys, is_valid in (
        ({"id": issuer, "verificationMethod": [multikey | {"id": f"{issuer}#1"}]}, True),
        ({"id": issuer, "verificationMethod": [multikey | {"id": f"{issuer}#2"}]}, False),
        ({"id": issuer, "verificationMethod": [multikey | {"id": f"{issuer}#1", "controller": "x"}]}, False),
        ({"keys": []}, False),
    ):
        web.answers["issuer"] = Answer(body=json.dumps(keys).encode())
        assert judge(token, allowed=(web.address,)).is_valid is is_valid
    assert failed(judge(as_token(document, iss=issuer), allowed=(web.address,))) == ["issuer key"]


def test_a_key_that_claims_an_issuer_from_elsewhere_is_not_its_own(web: Answering) -> None:
    issuer = web.address.replace("http:", "https:") + "/issuer"
    document = credential(issuer={"id": issuer, "type": ["Profile"], "name": "x"})
    with answering() as other:
        method = other.address.replace("http:", "https:") + "/key#1"
        multikey = {"type": "Multikey", "id": method, "publicKeyMultibase": DID.removeprefix("did:key:")}
        other.answers["key"] = Answer(body=json.dumps(multikey | {"controller": issuer}).encode())
        token = as_token(document, header={"kid": method}, iss=issuer)
        assert failed(judge(token, allowed=(web.address, other.address))) == ["issuer key"]
        assert other.asked == []


def test_a_key_of_a_did_web_is_one_that_it_issues_with(web: Answering) -> None:
    host = web.address.removeprefix("http://").replace(":", "%3A")
    did = f"did:web:{host}"
    method = {"id": f"{did}#1", "type": "Multikey", "publicKeyMultibase": DID.removeprefix("did:key:")}
    token = as_token(credential(issuer={"id": did, "name": "x"}), header={"kid": f"{did}#1"}, iss=did)
    other = as_token(credential(issuer={"id": did, "name": "x"}), header={"kid": METHOD}, iss=did)
    for more, is_valid in (
        ({"assertionMethod": ["#1"]}, True),
        ({"assertionMethod": [method]}, True),
        ({}, True),
        ({"assertionMethod": ["#2"]}, False),
        ({"id": "did:web:other.example"}, False),
        ({"verificationMethod": []}, False),
    ):
        known = {"id": did, "verificationMethod": [method], **more}
        web.answers[".well-known/did.json"] = Answer(body=json.dumps(known).encode())
        assert judge(token, allowed=(web.address,)).is_valid is is_valid, more
    web.answers[".well-known/did.json"] = Answer(
        body=json.dumps({"id": did, "verificationMethod": [method]}).encode()
    )
    assert failed(judge(other, allowed=(web.address,))) == ["issuer key"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"hello",
        b"{",
        b"{}",
        b'{"type": "Assertion"}',
        b'{"type": ["VerifiableCredential"]}',
        b'{"type": {"a": "VerifiableCredential"}}',
        b"[" * 100_000,
        b'{"type": "VerifiableCredential", "a": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"a":' * 100_000,
        b'{"type": "Assertion", "a": NaN}',
        b'{"type": "Assertion", "a": "\\ud800"}',
        b'{"type": "Assertion", "a": "' + b"a" * 300_000 + b'"}',
        b"a.b.c",
        b"e30.e30.e30",
        b"..",
        b"data:,a",
        b"data:;base64,ZGF0YTosYQ==",
        b"https://127.0.0.1/",
        b"http://169.254.169.254/latest/",
        b"file:///etc/passwd",
        pictures.raster(),
        pictures.PLAIN_SVG,
        pictures.LAUGHS,
        pictures.ZTXT_BOMB,
        json.dumps(ASSERTION).encode(),
        json.dumps({**ASSERTION, "verification": {"type": "SignedBadge"}}).encode(),
        json.dumps({**ASSERTION, "badge": {"id": "https://127.0.0.1/"}}).encode(),
        json.dumps(credential()).encode(),
        json.dumps(credential(proof=[{"cryptosuite": []}])).encode(),
    ],
)
def test_whatever_is_sent_gives_a_report(content: bytes) -> None:
    report = judge(content)
    assert failed(report)
    assert report.error_code


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.sampled_from([DID, METHOD, 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_document_with_anything_anywhere_gives_a_report(data: st.DataObject) -> None:
    for text, write in ((PROVEN, json.dumps), (TOKEN, lambda changed: as_token(changed, iss=None, sub=None))):
        document = json.loads(text) if text is PROVEN else credential(credentialStatus=entry("x"))
        parent: Any = document
        place = data.draw(st.sampled_from(sorted(parent)))
        while isinstance(parent[place], dict) and data.draw(st.booleans()):
            parent = parent[place]
            place = data.draw(st.sampled_from(sorted(parent)))
        before, parent[place] = parent[place], data.draw(JSON)
        report = judge(write(document))
        assert not report.is_valid or before == parent[place]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([PROVEN.encode(), TOKEN.encode(), json.dumps(ASSERTION).encode()]),
    st.integers(0, 10_000),
    st.binary(max_size=8),
)
def test_a_mutated_badge_is_never_valid_with_another_content(sound: bytes, at: int, put: bytes) -> None:
    place = at % len(sound)
    mutated = sound[:place] + put + sound[place + len(put) :]
    report = judge(mutated)
    if report.is_valid and report.exhibit:
        original = judge(sound).exhibit
        assert original
        assert report.exhibit.document == original.document


def test_the_time_is_the_verifiers_with_a_minute_of_leeway() -> None:
    starts = NOW + timedelta(seconds=30)
    soon = as_token(credential(validFrom=starts.isoformat()))
    assert judge(soon).is_valid
    assert judge(soon, now=NOW - timedelta(minutes=2)).error_code == "CREDENTIAL_NOT_YET_VALID"
