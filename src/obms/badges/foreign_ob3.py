"""A credential of Open Badges 3.0, of any issuer: a Data Integrity proof in it, or a token around it."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import jwt
from openbadgeslib.ob3 import OpenBadgeCredential

from obms.badges import contexts, earlier, proof_sets, signatures
from obms.badges.foreign_keys import algorithms_of, find_key
from obms.badges.foreign_status import check_status
from obms.badges.inquiry import (
    EXPIRY,
    KEY,
    RECIPIENT,
    SCHEMA,
    SIGNATURE,
    STATUS,
    Exhibit,
    Fault,
    Report,
    check_window,
)
from obms.badges.reading import id_of, listed, read_token
from obms.badges.signatures import WITHOUT_TIME
from obms.specs import Json, ob3, vc, vcdm

SUITES = {"eddsa-rdfc-2022", "ecdsa-sd-2023", earlier.SUITE_2022, earlier.SIGNATURE_2020}
BADGES = {"OpenBadgeCredential", "AchievementCredential"}
HASHES = {"sha256": hashlib.sha256, "md5": hashlib.md5}
IDENTITY_LIMIT = 50
# The registered claims of a token, and the members of the credential that they repeat.
REPEATED = {"iss": "issuer", "jti": "id", "sub": "credentialSubject"}


def examine(exhibit: Exhibit, report: Report) -> None:
    """Make every check that can be made."""
    header = read_token(exhibit.token)[0] if exhibit.token else {}
    document = vc.credential_in(exhibit.document) if exhibit.token else exhibit.document
    issuer = id_of(document.get("issuer"))
    report.issuer = issuer
    report.attempt(SCHEMA, lambda: _check_members(document, exhibit))
    pems: list[str] = []

    def find() -> str:
        if issuer is None:
            raise Fault("it names no issuer")
        method, report.cryptosuite = _method(document, header, exhibit)
        report.method = method
        pems.append(find_key(issuer, method, report.visit))
        return f"of {issuer}"

    if report.attempt(KEY, find):
        report.attempt(SIGNATURE, lambda: _check_signature(exhibit, pems[0], report.now))
    else:
        report.skip(SIGNATURE, "without a key it cannot be checked")
    report.attempt(EXPIRY, lambda: _check_time(document, exhibit.document, report))
    report.attempt(STATUS, lambda: check_status(document, issuer or "", report))
    if report.recipient:
        report.attempt(RECIPIENT, lambda: check_recipient(document, report.recipient or ""))


def _check_members(document: Json, exhibit: Exhibit) -> str:
    """What the standard requires; and of a document that is signed by its meaning, contexts known here.

    None is ever fetched. A token is signed as it stands.
    """
    if not BADGES & {each for each in listed(document.get("type")) if isinstance(each, str)}:
        raise Fault("its type names no OpenBadgeCredential")
    _check_contexts(listed(document.get("@context")), signed_by_meaning=not exhibit.token)
    # The library reads either version, and asks for the contexts of the newer one.
    credential = OpenBadgeCredential.from_vc_document({**document, "@context": list(ob3.CONTEXT)})
    subject = listed(document.get("credentialSubject"))[0]
    achievement = subject.get("achievement") if isinstance(subject, dict) else None
    start = "issuanceDate" if vcdm.is_earlier(document) else "validFrom"
    wanted = [(document, ("id", "issuer", start)), (achievement, ("id", "type", "name", "criteria"))]
    missing = [
        name for part, names in wanted for name in names if not (isinstance(part, dict) and part.get(name))
    ]
    if missing:
        raise Fault(f"it has no {', '.join(missing)}")
    version = ", data model 1.1" if vcdm.is_earlier(document) else ""
    return f"{credential.achievement.name}{version}"


def _check_contexts(named: list[Any], *, signed_by_meaning: bool) -> None:
    known = contexts.earlier()
    unknown = [each for each in named if not isinstance(each, str) or each not in known]
    if signed_by_meaning and unknown:
        raise Fault(f"the context {str(unknown[0])[:200]} is not one of those that are known here")
    if named[:1] not in ([vcdm.CONTEXT], [vcdm.EARLIER]):
        raise Fault(f"its first context is neither {vcdm.CONTEXT} nor {vcdm.EARLIER}")
    if not any(isinstance(each, str) and each.startswith(contexts.OPEN_BADGES) for each in named[1:]):
        raise Fault("it names no context of Open Badges")


def _method(document: Json, header: Json, exhibit: Exhibit) -> tuple[str | None, str]:
    """The key that the proof names, and the kind of the proof."""
    if exhibit.token:
        kid = header.get("kid")
        return kid if isinstance(kid, str) else None, str(header.get("alg"))[:50]
    proofs = [proof for proof in listed(document.get("proof")) if _is_known(proof)]
    if len(proofs) != 1:
        raise Fault("it has no proof of a kind that is known here, or more than one")
    method = proofs[0].get("verificationMethod")
    if not isinstance(method, str):
        raise Fault("its proof names no key")
    return method, str(earlier.suite_of(proofs[0]))


def _is_known(proof: Any) -> bool:
    return earlier.suite_of(proof) in SUITES


def _check_signature(exhibit: Exhibit, pem: str, now: datetime) -> str:
    if exhibit.token:
        claims = jwt.decode(exhibit.token, pem, algorithms=algorithms_of(pem), options=WITHOUT_TIME)
        _check_claims(claims)
        return "the token is signed by that key"
    proof = next(filter(_is_known, listed(exhibit.document.get("proof"))))
    if earlier.is_earlier(exhibit.document, proof):
        earlier.verify(exhibit.document, proof, pem)
        if "expires" in proof and not proof_sets.is_after(proof["expires"], now):
            raise Fault(f"the proof was good until {proof['expires']}")
    else:
        signatures.check(exhibit.text, "data-integrity", pem)
    return "the proof covers all of it"


def _check_claims(claims: Json) -> None:
    """The claims around a credential must not say otherwise than it does itself."""
    if id_of(claims.get("iss")) is None:
        raise Fault("the token has no iss")
    credential: Any = claims if "@context" in claims else claims.get("vc", claims)
    for claim, member in REPEATED.items():
        inside = id_of(credential.get(member))
        if claim in claims and inside is not None and claims[claim] != inside:
            raise Fault(f"{claim} of the token is not the {member} of the credential")


def _check_time(document: Json, claims: Json, report: Report) -> str:
    """The narrower of what the credential says and what a token around it says."""
    starts = [_time(document.get(name)) for name in ("validFrom", "issuanceDate")]
    ends = [_time(document.get(name)) for name in ("validUntil", "expirationDate")]
    starts.append(_seconds(claims.get("nbf")))
    ends.append(_seconds(claims.get("exp")))
    return check_window(
        report,
        max((each for each in starts if each is not None), default=None),
        min((each for each in ends if each is not None), default=None),
    )


def _time(value: Any) -> datetime | None:
    """Invalid times and those without a zone are a fault, never no bound."""
    if value is None:
        return None
    found = datetime.fromisoformat(str(value))
    if found.tzinfo is None:
        raise Fault(f"the time {str(value)[:50]} has no zone")
    return found


def _seconds(value: Any) -> datetime | None:
    return None if value is None else datetime.fromtimestamp(float(value), UTC)


def check_recipient(document: Json, expected: str) -> str:
    """Fault unless the badge is for who is expected: by id, or by an identifier, hashed or not."""
    for subject in listed(document.get("credentialSubject")):
        if not isinstance(subject, dict):
            continue
        if id_of(subject) in (expected, f"mailto:{expected}"):
            return "by its id"
        for identity in listed(subject.get("identifier"))[:IDENTITY_LIMIT]:
            if isinstance(identity, dict) and is_same(
                str(identity.get("identityHash")), identity.get("salt"), expected
            ):
                return "by its identifier"
    raise Fault("it is for somebody else")


def is_same(identity: str, salt: object, expected: str) -> bool:
    """Whether an identity, hashed with its salt or open, is the expected one."""
    kind, dollar, digest = identity.partition("$")
    if not dollar:
        return identity == expected
    make = HASHES.get(kind)
    text = expected + (salt if isinstance(salt, str) else "")
    return make is not None and make(text.encode()).hexdigest() == digest.lower()
