"""Verifiable credentials of any kind, as the VC-API has them: issued without being kept, and verified."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import jwt
import sqlalchemy as sa
from openbadgeslib.errors import LibOpenBadgesException
from openvc.did.base import (
    DidResolverRegistry,
)
from openvc.errors import OpenvcError
from openvc.proof.data_integrity import CredentialNotYetValid, DataIntegrityProofSuite
from openvc.verify import VerificationPolicy, verify_credential

from obms.badges import Site, dids, earlier, graphs, keys, proof_sets, proofs, related, signatures
from obms.badges.contexts import CONTEXTS, known_to
from obms.badges.fetching import Visit
from obms.badges.foreign_keys import algorithms_of
from obms.badges.inquiry import Fault
from obms.badges.signers import open_signer
from obms.domain import PURPOSES, JoseName
from obms.errors import Invalid
from obms.schema import status_entries
from obms.specs import Json, iso, vc, vcdm

ENVELOPE = "data:application/vc+jwt,"
STATUS = "BitstringStatusListEntry"
STARTS = ("validFrom", "issuanceDate")
# A moment at which each credential has begun to be valid.
END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)
OWN_TERMS = "it defines terms itself: only its graph is to be believed, not the names of its members"
FAILURES = (OpenvcError, LibOpenBadgesException, signatures.BadSignature)
Kind = Literal["malformed", "proof", "period", "status"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong with a document; `member` says where."""

    kind: Kind
    detail: str
    member: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was looked at, what is wrong, and what could not be looked at."""

    checks: tuple[str, ...] = ()
    errors: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()

    def __add__(self, other: "Report") -> "Report":
        return Report(
            checks=tuple(dict.fromkeys((*self.checks, *other.checks))),
            errors=self.errors + other.errors,
            warnings=self.warnings + other.warnings,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What verifying needs: our own keys and lists, and a visit to fetch the keys of others, or none."""

    connection: sa.Connection
    site: Site
    visit: Visit | None = None

    def registry(self) -> DidResolverRegistry:
        return dids.registry(self.connection, self.site, self.visit)


def require_form(
    complaints: Callable[[Mapping[str, Any]], vcdm.Complaints], document: Mapping[str, Any]
) -> None:
    """Invalid, by member, for a document that is not well formed."""
    if found := vcdm.told(complaints, document):
        raise Invalid(**found)


def issue(
    connection: sa.Connection, site: Site, issuer_id: str, document: Json, alg: JoseName | None
) -> Json:
    """Sign a credential as it stands: in an envelope as VC-JWT where `alg` is given, else by Data Integrity.

    Invalid for one that is not well formed, or of which a proof would not cover all.
    """
    require_form(vcdm.credential_complaints, document)
    if "proof" in document:
        raise Invalid(proof=["must not be there: it is what is asked for"])
    if alg is not None:
        key = keys.active_key(connection, site, issuer_id, keys.algorithm_for("jwt", alg))
        token = proofs.make_token(vc.jwt_claims(document), open_signer(site, key))
        return {"@context": vcdm.CONTEXT, "type": vcdm.ENVELOPED[0], "id": ENVELOPE + token}
    key = keys.active_key(connection, site, issuer_id)
    try:
        text = proofs.add_proof(document, open_signer(site, key), site.clock(), CONTEXTS)
        signed: Json = json.loads(text)
        _require_said(Desk(connection=connection, site=site), document, signed)
    except (proofs.CannotBeSigned, signatures.BadSignature, OpenvcError) as error:
        raise Invalid(credential=[f"cannot be signed as it stands: {error}"]) from error
    return signed


def _require_said(desk: Desk, document: Json, signed: Json) -> None:
    """What is signed is the graph that the contexts make of a document: it must hold all of it."""
    if not graphs.defines_terms(document):
        _require_proof(desk, signed)
    elif missing := graphs.unsaid(document, CONTEXTS):
        raise proofs.CannotBeSigned(f"no context says what {missing} is")


def _require_proof(desk: Desk, signed: Json) -> None:
    """The proof, whoever made it and whenever what it is on is valid."""
    proof: Any = signed["proof"]
    if earlier.is_earlier(signed, proof):
        method = str(proof.get("verificationMethod"))
        pem = graphs.find_key(desk.registry(), method.partition("#")[0], method, earlier.PURPOSE)
        earlier.verify(signed, proof, pem)
        return
    DataIntegrityProofSuite().verify(
        signed,
        resolver=desk.registry(),
        extra_contexts=known_to(signed),
        check_temporal=False,
        now=END_OF_TIME,
    )


def verify(desk: Desk, held: Any) -> Report:
    """The report on a credential: an object with a proof, an envelope, or a token."""
    if isinstance(held, str):
        return _verify_token(desk, held)
    form = judge_form(vcdm.held_complaints, held)
    if form.errors or not isinstance(held, Mapping):
        return form
    if vcdm.ENVELOPED[0] in vcdm.types_of(held):
        return form + _verify_token(desk, str(held["id"]).partition(",")[2])
    return form + _verify_document(desk, dict(held))


def judge_form(complaints: vcdm.Judge, document: Any) -> Report:
    found = [Finding(kind="malformed", member=name, detail=text) for name, text in complaints(document)]
    return Report(checks=("form",), errors=tuple(found))


def failed(error: object) -> Report:
    kind: Kind = "period" if isinstance(error, CredentialNotYetValid) else "proof"
    return Report(checks=("proof",), errors=(Finding(kind=kind, detail=str(error)),))


def _verify_token(desk: Desk, token: str) -> Report:
    try:
        document = _token_document(desk, token)
    except (jwt.InvalidTokenError, TypeError, ValueError, OverflowError, OSError, *FAILURES) as error:
        return failed(error)
    form = judge_form(vcdm.held_complaints, document)
    # What is malformed has no times that could be read.
    return Report(checks=("proof",)) + form + (Report() if form.errors else _standing(desk, document))


def _token_document(desk: Desk, token: str) -> Json:
    """The credential in a token: as its payload, or by the older way under `vc` in it."""
    claims = jwt.decode(token, options={"verify_signature": False})
    if "vc" in claims:
        verify_credential(token, policy=_policy(desk), resolver=desk.registry())
        return _bounded(vc.credential_in(claims), claims)
    document = {name: value for name, value in vc.jwt_document(claims).items() if name not in ("iat", "aud")}
    did, kid = vc.issuer_of(document) or "", jwt.get_unverified_header(token).get("kid")
    if kid is not None and str(kid).partition("#")[0] not in ("", did):
        raise signatures.BadSignature("the key is another issuer's")
    require_signed(desk, token, did, kid, "assertionMethod")
    for name, claim in (("validFrom", "nbf"), ("validUntil", "exp")):
        # A token may have a period where the credential in it has none.
        if isinstance(time := claims.get(claim), int) and name not in document:
            document[name] = iso(datetime.fromtimestamp(time, UTC))
    expected = vc.jwt_claims(document)
    if any(claims[name] != expected.get(name) for name in ("iss", "jti", "nbf", "exp") if name in claims):
        raise signatures.BadSignature("the registered claims contradict the credential")
    return document


def _bounded(document: Json, claims: Json) -> Json:
    """The credential with the narrower of the times that it has itself and that the token has."""
    start, end = vc.period_of(document)
    for name, claim, narrower in ((start, "nbf", max), (end, "exp", min)):
        if claim in claims and name in document:
            times = (str(document[name]), vc.time_of(claims[claim]))
            document[name] = narrower(times, key=datetime.fromisoformat)
    return document


def require_signed(desk: Desk, token: str, did: str, kid: str | None, purpose: str) -> None:
    """BadSignature, or an error of the library, unless a key of a DID that is for a purpose has signed it."""
    pem = graphs.find_key(desk.registry(), did, kid, purpose)
    try:
        algorithms = algorithms_of(pem)
    except Fault as error:
        raise signatures.BadSignature(str(error)) from error
    jwt.decode(token, pem, algorithms=algorithms, options=signatures.WITHOUT_TIME)


def _policy(desk: Desk) -> VerificationPolicy:
    """The proof and who made it. When it is valid, and how it stands, is looked at apart."""
    return VerificationPolicy(require_status=False, require_not_expired=False, now=desk.site.clock())


def _verify_document(desk: Desk, document: Json) -> Report:
    said: Mapping[str, Any] = document
    warnings: tuple[str, ...] = ()
    try:
        if len(vcdm.listed(document.get("proof"))) > 1:
            said, warnings = _verify_set(desk, document)
        elif graphs.defines_terms(document):
            said, warnings = _verify_graph(desk, document), (OWN_TERMS,)
        elif earlier.is_earlier(document, earlier.proof_of(document)):
            _verify_earlier(desk, document)
        else:
            verify_credential(
                document, policy=_policy(desk), resolver=desk.registry(), extra_contexts=known_to(document)
            )
    except FAILURES as error:
        return failed(error)
    proven = Report(checks=("proof",), warnings=warnings) + _in_use(desk, document)
    return proven + _standing(desk, said)


def _verify_earlier(desk: Desk, document: Json) -> None:
    proof = earlier.proof_of(document)
    if str(proof.get("verificationMethod")).partition("#")[0] != vc.issuer_of(document):
        raise signatures.BadSignature("the key is not the issuer's")
    _require_proof(desk, {**document, "proof": proof})


def _verify_set(desk: Desk, document: Json) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """All of several proofs must verify, whoever made them; one of them must be the issuer's own."""
    registry = desk.registry()
    alone = proof_sets.verify_chains(document, registry, known_to(document))
    said: Mapping[str, Any] = document
    warnings: tuple[str, ...] = ()
    issuer = vc.issuer_of(document)
    for single in alone:
        if graphs.defines_terms(document):
            node = graphs.verify(single, "assertionMethod", registry, known_to(document))
            said, warnings, issuer = graphs.standing_of(node), (OWN_TERMS,), graphs.issuer_of(node)
        else:
            _require_proof(desk, single)
    if issuer not in proof_sets.makers(document):
        raise signatures.BadSignature("none of its proofs is the issuer's")
    return said, warnings


def _in_use(desk: Desk, document: Json) -> Report:
    """Data Integrity, section 2.1: a proof may end before what it is on."""
    ends = [each.get("expires") for each in vcdm.listed(document.get("proof")) if isinstance(each, Mapping)]
    over = [end for end in ends if end is not None and not proof_sets.is_after(end, desk.site.clock())]
    found = (Finding(kind="proof", detail=f"the proof was good until {end}") for end in over)
    return Report(errors=tuple(found))


def _related(document: Mapping[str, Any]) -> Report:
    found = list(related.judge(document))
    return Report(
        errors=tuple(
            Finding(kind="malformed", member="relatedResource", detail=f"{each.id} has another digest")
            for each in found
            if each.differs
        ),
        warnings=tuple(f"the digest of {each.id} was not compared" for each in found if not each.differs),
    )


def _verify_graph(desk: Desk, document: Json) -> Json:
    if not proof_sets.is_plain(document.get("proof")):
        raise signatures.BadSignature("its proof has members that are not known")
    node = graphs.verify(document, "assertionMethod", desk.registry(), known_to(document))
    method = str(document["proof"]["verificationMethod"])  # type: ignore[index]
    if graphs.issuer_of(node) != method.partition("#")[0]:
        raise signatures.BadSignature("the key is not the issuer's")
    return graphs.standing_of(node)


def _standing(desk: Desk, document: Mapping[str, Any]) -> Report:
    """Whether the credential is in its time, and what the status lists say that are our own."""
    errors = list(_out_of_time(document, desk.site.clock()))
    warnings, marks = [], set[str]()
    for entry in vcdm.listed(document.get("credentialStatus")):
        found = _marks(desk, entry)
        if found is None:
            warnings.append(f"the status {entry.get('id') or entry.get('type')} was not looked up")
        else:
            marks |= found
    errors += [Finding(kind="status", detail=f"set for {mark}") for mark in PURPOSES if mark in marks]
    told = Report(checks=("period", "status"), errors=tuple(errors), warnings=tuple(warnings))
    return told + _related(document)


def _out_of_time(document: Mapping[str, Any], now: datetime) -> Iterable[Finding]:
    for name in graphs.PERIOD:
        if name not in document:
            continue
        try:
            time = datetime.fromisoformat(str(document[name]))
            is_over = now < time if name in STARTS else now > time
        except (TypeError, ValueError):
            yield Finding(kind="malformed", member=name, detail="it is no time with its zone")
            continue
        if is_over:
            detail = "it is not valid yet" if name in STARTS else "it has expired"
            yield Finding(kind="period", member=name, detail=detail)


def _marks(desk: Desk, entry: Mapping[str, Any]) -> set[str] | None:
    """What is set for the credential that has this place in one of our lists; None if none is known here.

    A badge may name one place of the two that it has: what is set at the other one counts too.
    """
    start = f"{desk.site.base_url}/status-lists/"
    url, index = str(entry.get("statusListCredential")), str(entry.get("statusListIndex"))
    if entry.get("type") != STATUS or not url.startswith(start) or not index.isdecimal():
        return None
    places = status_entries.c
    there = sa.select(places.credential_id).where(
        places.list_id == url.removeprefix(start), places.position == int(index)
    )
    query = sa.select(places.purpose, places.value)
    rows = desk.connection.execute(query.where(places.credential_id == there.scalar_subquery())).all()
    return {row.purpose for row in rows if row.value} if rows else None
