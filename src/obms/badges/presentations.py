"""Verifiable presentations, with a proof in them or in an envelope: whose they are, and what is in them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import jwt
from openvc.proof.data_integrity import DataIntegrityProofSuite

from obms.badges import graphs, signatures
from obms.badges.contexts import CONTEXTS
from obms.badges.exchange import (
    FAILURES,
    Desk,
    Finding,
    Report,
    failed,
    judge_form,
    require_signed,
    verify,
)
from obms.badges.reading import id_of, listed
from obms.specs import Json, vc, vcdm

PURPOSE = "authentication"
CLAIMS = ("iat", "aud", "nonce")


def verify_presentation(
    desk: Desk, presentation: Mapping[str, Any], challenge: str | None, domain: str | None
) -> Report:
    """The report on a presentation and all that is in it.

    A credential in it that has no proof is not refused: it is what the holder says, and a warning tells so.
    """
    if vcdm.ENVELOPED[1] in vcdm.types_of(presentation):
        form = judge_form(vcdm.envelope_complaints, presentation)
        if form.errors:
            return form
        return form + _verify_token(desk, str(presentation["id"]).partition(",")[2], challenge, domain)
    form = judge_form(vcdm.presentation_complaints, presentation)
    if form.errors:
        return form
    try:
        _verify_holder(desk, dict(presentation), challenge, domain)
    except FAILURES as error:
        return form + failed(error)
    return form + _verify_held(desk, presentation)


def _verify_held(desk: Desk, presentation: Mapping[str, Any]) -> Report:
    report = Report(checks=("proof",))
    for number, held in enumerate(vcdm.listed(presentation.get("verifiableCredential"))):
        if "proof" in held or vcdm.ENVELOPED[0] in vcdm.types_of(held):
            report += verify(desk, held)
        else:
            report += Report(warnings=(f"verifiableCredential.{number} has no proof",))
    return report


def _verify_holder(desk: Desk, presentation: Json, challenge: str | None, domain: str | None) -> None:
    if not graphs.defines_terms(presentation):
        DataIntegrityProofSuite().verify(
            presentation,
            resolver=desk.registry(),
            expected_proof_purpose=PURPOSE,
            expected_challenge=challenge,
            expected_domain=domain,
            now=desk.site.clock(),
            extra_contexts=CONTEXTS,
        )
        return
    graphs.verify(presentation, PURPOSE, desk.registry(), CONTEXTS)
    proof = presentation["proof"]
    for name, expected in (("challenge", challenge), ("domain", domain)):
        if expected is not None and isinstance(proof, Mapping) and proof.get(name) != expected:
            raise signatures.BadSignature(f"the {name} is another one")


def _verify_token(desk: Desk, token: str, challenge: str | None, domain: str | None) -> Report:
    """A presentation as the payload of a token, or by the older way under `vp` in it."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        inside = claims.get("vp", claims)
        document = {name: value for name, value in vc.jwt_document(inside).items() if name not in CLAIMS}
        _require_holder(desk, token, claims, document)
        _require_asked(claims, challenge, domain)
        over = _is_over(claims, desk.site.clock())
    except (jwt.InvalidTokenError, AttributeError, ValueError, OverflowError, *FAILURES) as error:
        return failed(error)
    form = judge_form(vcdm.presentation_complaints, document)
    if over:
        form += Report(errors=(Finding(kind="period", detail="the token is not in its time"),))
    return form if form.errors else form + _verify_held(desk, document)


def _require_holder(desk: Desk, token: str, claims: Json, document: Json) -> None:
    """BadSignature unless a key of the holder, whom the token and what is in it name alike, has signed it."""
    kid = str(jwt.get_unverified_header(token).get("kid") or "")
    named = {name for name in (claims.get("iss"), id_of(document.get("holder"))) if name is not None}
    holders = named or {kid.partition("#")[0]}
    if len(holders) != 1 or kid.partition("#")[0] not in {"", *holders}:
        raise signatures.BadSignature("it is not clear who the holder is")
    require_signed(desk, token, str(holders.pop()), kid or None, PURPOSE)


def _require_asked(claims: Json, challenge: str | None, domain: str | None) -> None:
    if challenge is not None and claims.get("nonce") != challenge:
        raise signatures.BadSignature("the challenge is another one")
    if domain is not None and domain not in listed(claims.get("aud")):
        raise signatures.BadSignature("the domain is another one")


def _is_over(claims: Json, now: datetime) -> bool:
    """Whether it is not the time that the token is good for."""
    start, end = (_moment(claims.get(name)) for name in ("nbf", "exp"))
    return (start is not None and now < start) or (end is not None and now > end)


def _moment(value: Any) -> datetime | None:
    """ValueError for what is no time."""
    if value is None:
        return None
    return datetime.fromtimestamp(float(str(value)), UTC)
