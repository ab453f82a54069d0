"""Badges of data model 1.1 and with older proofs, made by others: sound ones are valid, and no more.

`earlier.json` tells who made each of them, and where each pinned context is from.
"""

import hashlib
import json
from collections.abc import Callable
from copy import deepcopy
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from openbadgeslib.ob3 import contexts as library
from openbadgeslib.ob3 import did_key_from_pem, ldp
from openbadgeslib.ob3.did import resolve_did
from openvc.multibase import encode_multibase

from obms.badges import contexts, earlier, foreign
from obms.badges.fetching import Fetched, Fetcher, Visit
from obms.badges.inquiry import Report
from obms.badges.keys import public_pem
from obms.badges.signatures import BadSignature
from obms.specs import vcdm
from tests.badges.foreigners import DID, KEY, METHOD, NOW

MADE: dict[str, Any] = json.loads((Path(__file__).parent / "earlier.json").read_text(encoding="utf-8"))
BADGES, LISTS, EDTECH = MADE["badges"], MADE["lists"], MADE["1edtech"]
NOT_VALID = {"expired": "CREDENTIAL_EXPIRED"}
PICTURED = "Ed25519Signature2020, AchievementCredential with a picture"
PEM = public_pem(KEY)
RECIPIENT = "zoë@example.org"


def judge(
    content: Any, recipient: str | None = None, now: datetime = NOW, at_hand: dict[str, Any] | None = None
) -> Report:
    """The report on a badge, where these documents stand at these addresses and nothing else does."""
    answers = {name: json.dumps(value).encode() for name, value in (at_hand or {}).items()}

    def own(url: str) -> Fetched | None:
        content = answers.get(url.rpartition("/")[2].replace(".json", ""))
        return None if content is None else Fetched(status=200, content=content)

    def resolve(_host: str, _port: int) -> list[str]:
        raise OSError

    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return foreign.judge(text.encode(), Visit(Fetcher(resolve=resolve), own), now, recipient)


def changed(name: str, change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    document: dict[str, Any] = deepcopy(BADGES[name])
    change(document)
    return document


def token(**claims: Any) -> str:
    """By section 6.3.1 of data model 1.1: the credential under `vc`, less what the claims tell."""
    document = deepcopy(BADGES["Ed25519Signature2020, context.json"])
    for name in ("proof", "issuer", "issuanceDate", "id"):
        del document[name]
    del document["credentialSubject"]["id"]
    payload = {
        "iss": DID,
        "jti": "https://elsewhere.example/1",
        "sub": f"mailto:{RECIPIENT}",
        "nbf": 1767225600,
        "vc": document | claims.pop("inside", {}),
    }
    kept = {name: value for name, value in (payload | claims).items() if value is not None}
    return jwt.encode(kept, KEY, algorithm="EdDSA", headers={"kid": METHOD, "typ": "JWT"})


def test_each_context_is_the_one_whose_source_is_named() -> None:
    folder = resources.files(contexts)
    found = {
        name: hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest()
        for name in set(contexts.FILES.values())
    }
    assert found == contexts.SHA256
    assert set(MADE["contexts"]) == set(found)


@pytest.mark.parametrize("name", [each for each in BADGES if "List" not in each])
def test_a_badge_of_another_hand_is_judged_as_it_is(name: str) -> None:
    report = judge(BADGES[name], RECIPIENT)
    assert report.error_code == NOT_VALID.get(name), report.findings
    assert report.passed("signature")
    assert report.is_valid is (name not in NOT_VALID)
    assert report.cryptosuite == BADGES[name]["proof"].get("cryptosuite", "Ed25519Signature2020")


def test_the_vector_of_1edtech_has_its_hashes_and_its_signature() -> None:
    """Its key is at an address where nothing is, so that as a badge its key cannot be found."""
    signed = EDTECH["signed"]
    config = {name: value for name, value in signed["proof"].items() if name != "proofValue"}
    bare = {name: value for name, value in signed.items() if name != "proof"}
    loader = library.document_loader(contexts.earlier())
    data = ldp._hash_data(bare, config | {"@context": signed["@context"]}, loader)
    assert data.hex() == EDTECH["hashes"]
    pem = resolve_did(f"did:key:{EDTECH['key']}").decode()
    earlier.verify(signed, signed["proof"], pem)
    with pytest.raises(BadSignature):
        earlier.verify(signed, signed["proof"], PEM)
    assert judge(signed).error_code == "ISSUER_KEY_NOT_FOUND"


CHANGES: list[Callable[[dict[str, Any]], Any]] = [
    lambda it: it.update(issuanceDate="2025-01-01T00:00:00Z"),
    lambda it: it.update(expirationDate="2046-01-01T00:00:00Z"),
    lambda it: it.pop("expirationDate"),
    lambda it: it.update(validUntil=it.pop("expirationDate")),
    lambda it: it.update({"https://www.w3.org/2018/credentials#expirationDate": it.pop("expirationDate")}),
    lambda it: it.update(unknown="not signed"),
    lambda it: it["credentialSubject"].update(id="mailto:eve@example.org"),
    lambda it: it["credentialSubject"]["achievement"].update(name="Better"),
    lambda it: it["credentialSubject"]["achievement"].update(
        Profile=it["credentialSubject"]["achievement"].pop("creator")
    ),
    lambda it: it["credentialSubject"].update(Achievement=it["credentialSubject"].pop("achievement")),
    lambda it: it.update(credentialSubject=[[it["credentialSubject"]]]),
    lambda it: it["@context"].pop(2),
    lambda it: it["proof"].update(created="2026-01-02T00:00:00Z"),
    lambda it: it["proof"].update(expires="2036-01-02T00:00:00Z"),
    lambda it: it["proof"].update(proofPurpose="authentication"),
    lambda it: it["proof"].update(proofValue=it["proof"]["proofValue"][:-1] + "1"),
    lambda it: it["proof"].update(proofValue=""),
    lambda it: it["proof"].update(type="DataIntegrityProof", cryptosuite="eddsa-rdfc-2022"),
    lambda it: it["proof"].update(more={"a": "b"}),
    lambda it: it.update(proof=[it["proof"], it["proof"]]),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_badge_has_no_valid_signature(change: Callable[[dict[str, Any]], Any]) -> None:
    report = judge(changed(PICTURED, change))
    assert not report.is_valid
    assert not report.passed("signature"), report.findings


def test_a_badge_defines_no_terms_itself() -> None:
    """The signature still holds where none of them is used."""
    named = {"@vocab": "https://www.w3.org/2018/credentials#"}
    report = judge(changed(PICTURED, lambda it: it["@context"].insert(2, named)))
    assert report.error_code == "INVALID_SCHEMA"


def test_a_badge_by_another_key_is_not_the_issuers() -> None:
    other = did_key_from_pem(public_pem(Ed25519PrivateKey.from_private_bytes(b"o" * 32)))
    method = f"{other}#{other.removeprefix('did:key:')}"
    assert judge(changed(PICTURED, lambda it: it["proof"].update(verificationMethod=method))).error_code
    forged = changed(PICTURED, lambda it: it["issuer"].update(id=other))
    forged["proof"]["verificationMethod"] = method
    report = judge(forged)
    assert report.passed("issuer key")
    assert report.error_code == "INVALID_SIGNATURE"


def test_the_time_of_1_1_is_kept_to() -> None:
    before, after = (datetime.fromisoformat(f"{each}-01T00:00:00Z") for each in ("2025-12", "2037-01"))
    assert judge(BADGES[PICTURED], now=before).error_code == "CREDENTIAL_NOT_YET_VALID"
    assert judge(BADGES[PICTURED], now=after).error_code == "CREDENTIAL_EXPIRED"


def test_a_member_that_1_1_wants_is_missed() -> None:
    """In a token, which would be sound without it."""
    assert judge(token()).is_valid
    assert judge(token(nbf=None)).error_code == "INVALID_SCHEMA"
    assert judge(token(inside={"@context": [vcdm.EARLIER]})).error_code == "INVALID_SCHEMA"
    assert (
        judge(token(inside={"@context": ["https://a.example/", vcdm.EARLIER]})).error_code == "INVALID_SCHEMA"
    )


def test_a_token_of_1_1_is_judged_by_its_claims_too() -> None:
    report = judge(token(exp=2082758400), RECIPIENT)
    assert report.is_valid, report.findings
    assert report.exhibit
    assert (report.exhibit.version, report.issuer) == ("3.0", DID)
    assert judge(token(), "eve@example.org").error_code == "RECIPIENT_MISMATCH"
    for claims, code in (
        ({"exp": 1767225601}, "CREDENTIAL_EXPIRED"),
        ({"nbf": 1798761600}, "CREDENTIAL_NOT_YET_VALID"),
        ({"inside": {"expirationDate": "2026-02-01T00:00:00Z"}, "exp": 2082758400}, "CREDENTIAL_EXPIRED"),
        (
            {"inside": {"issuer": "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"}},
            "ISSUER_KEY_NOT_FOUND",
        ),
        ({"inside": {"id": "urn:uuid:1"}}, "INVALID_SIGNATURE"),
        ({"inside": {"issuer": None}, "iss": None}, "INVALID_SCHEMA"),
        ({"inside": {"type": ["VerifiableCredential"]}}, "INVALID_SCHEMA"),
    ):
        assert judge(token(**claims)).error_code == code, claims
    junk: dict[str, Any]
    for junk in (
        {"nbf": "x"},
        {"exp": 1e300},
        {"exp": [1]},
        {"vc": []},
        {"vc": {"type": "VerifiableCredential"}},
    ):
        report = judge(token(**junk))
        assert not report.is_valid, junk
        assert report.error_code
    header, payload, signature = token().split(".")
    assert judge(f"{header}.{payload}.{signature[:-4]}AAAA").error_code == "INVALID_SIGNATURE"


@pytest.mark.parametrize(
    ("name", "at", "kind"),
    [("StatusList2021Entry", "list", "2021"), ("RevocationList2020Status", "rlist", "2020")],
)
def test_the_older_lists_are_asked_and_believed(name: str, at: str, kind: str) -> None:
    clear, revoked = (LISTS[f"list-{kind}-{each}"] for each in ("clear", "set"))
    assert judge(BADGES[name], at_hand={at: clear}).is_valid
    assert judge(BADGES[name], at_hand={at: revoked}).error_code == "CREDENTIAL_REVOKED"
    bits = {"encodedList": clear["credentialSubject"]["encodedList"]}
    other = LISTS["list-2020-clear" if kind == "2021" else "list-2021-clear"]
    for wrong in (
        revoked | {"credentialSubject": revoked["credentialSubject"] | bits},
        clear | {"issuanceDate": "2026-07-01T00:00:00Z"},
        {each: value for each, value in clear.items() if each != "proof"},
        other,
        {},
    ):
        assert judge(BADGES[name], at_hand={at: wrong}).error_code == "STATUS_UNKNOWN", wrong
    assert judge(BADGES[name]).error_code == "STATUS_UNKNOWN"


def test_a_list_of_1_1_that_is_over_or_of_another_kind_tells_nothing() -> None:
    clear = {name: value for name, value in LISTS["list-2021-clear"].items() if name != "proof"}

    def listed(**more: Any) -> Report:
        document = {"iss": DID, "vc": clear | more}
        text = jwt.encode(document, KEY, algorithm="EdDSA", headers={"kid": METHOD})
        fetched = Fetched(status=200, content=text.encode())
        visit = Visit(Fetcher(), lambda url: fetched if url.endswith("/list") else None)
        return foreign.judge(json.dumps(BADGES["StatusList2021Entry"]).encode(), visit, NOW)

    assert listed().is_valid
    for more in (
        {"expirationDate": "2026-02-01T00:00:00Z"},
        {"issuanceDate": "2026-07-01T00:00:00Z"},
        {"issuer": "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"},
        {"credentialSubject": clear["credentialSubject"] | {"type": "RevocationList2020"}},
        {"credentialSubject": clear["credentialSubject"] | {"statusPurpose": "suspension"}},
    ):
        assert listed(**more).error_code == "STATUS_UNKNOWN", more


def test_a_badge_of_a_did_web_is_verified_by_the_key_at_its_address() -> None:
    did = "did:web:elsewhere.example"
    key = {
        "id": f"{did}#key-1",
        "type": "Ed25519VerificationKey2020",
        "controller": did,
        "publicKeyMultibase": DID.removeprefix("did:key:"),
    }
    known = {"id": did, "verificationMethod": [key], "assertionMethod": [f"{did}#key-1"]}
    assert judge(MADE["did:web"], at_hand={"did": known}).is_valid
    other = key | {"publicKeyMultibase": EDTECH["key"]}
    for wrong, code in (
        ({"verificationMethod": [other]}, "INVALID_SIGNATURE"),
        ({"assertionMethod": [f"{did}#key-2"]}, "ISSUER_KEY_NOT_FOUND"),
        ({"verificationMethod": []}, "ISSUER_KEY_NOT_FOUND"),
        ({"id": "did:web:other.example"}, "ISSUER_KEY_NOT_FOUND"),
    ):
        assert judge(MADE["did:web"], at_hand={"did": known | wrong}).error_code == code, wrong


def test_a_proof_that_has_expired_does_not_count() -> None:
    signed = earlier_signed(expires="2026-03-01T00:00:00Z")
    assert judge(signed, now=datetime.fromisoformat("2026-02-01T00:00:00Z")).is_valid
    assert judge(signed).error_code == "INVALID_SIGNATURE"


def test_a_proof_for_another_purpose_does_not_count() -> None:
    assert judge(earlier_signed(proofPurpose="assertionMethod")).is_valid
    assert judge(earlier_signed(proofPurpose="authentication")).error_code == "INVALID_SIGNATURE"


def earlier_signed(**more: str) -> dict[str, Any]:
    """A badge whose proof has more members, by our own hand: the hashes are those that others sign."""
    document = deepcopy(BADGES["Ed25519Signature2020, 3.0.3"])
    proof = {name: value for name, value in document.pop("proof").items() if name != "proofValue"} | more
    loader = library.document_loader(contexts.earlier())
    data = ldp._hash_data(document, proof | {"@context": document["@context"]}, loader)
    signed: dict[str, Any] = document | {"proof": proof | {"proofValue": encode_multibase(KEY.sign(data))}}
    return signed
