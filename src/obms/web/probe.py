"""The application's own proof of a restored copy: it is started on it, and must stand by its badges."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import httpx
import jwt
import sqlalchemy as sa
from openbadgeslib.errors import LibOpenBadgesException

from obms.backup.manifest import Check
from obms.badges import baking, credentials, examining, signatures, statuses, verifying
from obms.databases import Database
from obms.domain import REVOCATION, SUSPENSION
from obms.errors import KeyMissing, ObmsError
from obms.schema import achievements, issuers
from obms.schema import credentials as credential_table
from obms.server import Server
from obms.web import create_app

# What reading damaged rows may raise: the copy is bad then, and the proof goes on.
FINDINGS = (
    sa.exc.SQLAlchemyError,
    ObmsError,
    signatures.BadSignature,
    LibOpenBadgesException,
    httpx.HTTPError,
    jwt.PyJWTError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)
COMPLAINTS_SHOWN = 3
BAKED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A server on the copy, a client that talks to it in process, and a connection to the same rows."""

    server: Server
    client: httpx.AsyncClient
    connection: sa.Connection
    sample: tuple[credentials.Kept, ...]
    can_sign: bool


Step = Callable[[Trial], Awaitable[Check]]


def probe(server_of: Callable[[Database], Server]) -> Callable[[Database], list[Check]]:
    """The probe that proves copies by the servers that `server_of` makes for them.

    It raises KeyMissing where nothing was found wrong but the signing keys could not be opened:
    then the copy could not be judged. It must not be called from within an event loop.
    """

    def prove(database: Database) -> list[Check]:
        return asyncio.run(_prove(server_of(database)))

    return prove


async def _prove(server: Server) -> list[Check]:
    # Nobody else knows this key, so that lists for key holders answer whatever the settings are.
    server = replace(server, admin_key=secrets.token_urlsafe(32))
    app = create_app(server)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"X-API-Key": server.admin_key or ""}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://proof.invalid", headers=headers) as client,
    ):
        started = await _starts(client)
        if not started.ok:
            return [started]
        return [started, *await _examine(server, client)]


async def _starts(client: httpx.AsyncClient) -> Check:
    answer = await client.get("/health")
    health = answer.json()
    ok = answer.status_code == httpx.codes.OK and health["database"]["connected"]
    detail = f"/health answers {answer.status_code} {health['status']}"
    return Check(
        name="application starts", ok=ok, detail=detail + f" {health['database'].get('error', '')}".rstrip()
    )


async def _examine(server: Server, client: httpx.AsyncClient) -> list[Check]:
    missing: KeyMissing | None = None
    with server.database.engine.connect() as connection:
        try:
            keys_check = _keys_can_sign(server, connection)
        except KeyMissing as error:
            missing = error
        except FINDINGS as error:
            keys_check = _failed("keys can sign", error)
        try:
            sample = tuple(examining.sample(connection, server.site.clock()))
        except FINDINGS as error:
            return [_failed("sample verifies", error)]
        trial = Trial(
            server=server, client=client, connection=connection, sample=sample, can_sign=missing is None
        )
        checks = [await _take(name, step, trial) for name, step in STEPS.items()]
    if missing is None:
        return [*checks, keys_check]
    if all(check.ok for check in checks):
        raise missing
    return checks


async def _take(name: str, step: Step, trial: Trial) -> Check:
    try:
        return await step(trial)
    except FINDINGS as error:
        return _failed(name, error)


def _failed(name: str, error: BaseException) -> Check:
    return Check(name=name, ok=False, detail=f"{type(error).__name__}: {error}".splitlines()[0][:300])


def _verdict(name: str, complaints: list[str], figures: str) -> Check:
    """A check that is fine without complaints; of many the first ones are told."""
    if not complaints:
        return Check(name=name, ok=True, detail=figures)
    more = f" and {len(complaints) - COMPLAINTS_SHOWN} more" if len(complaints) > COMPLAINTS_SHOWN else ""
    return Check(name=name, ok=False, detail="; ".join(complaints[:COMPLAINTS_SHOWN]) + more)


async def _lists_answer(trial: Trial) -> Check:
    tables = (issuers, achievements, credential_table)
    held = examining.counts(trial.connection, tables)
    complaints = []
    for name, count in held.items():
        answer = await trial.client.get(f"/{name}", params={"limit": 5})
        total = answer.headers.get("X-Total-Count")
        if answer.status_code != httpx.codes.OK or total != str(count) or len(answer.json()) != min(count, 5):
            complaints.append(
                f"/{name} answers {answer.status_code} with a total of {total} for {count} rows"
            )
    return _verdict("lists answer", complaints, ", ".join(f"{count} {name}" for name, count in held.items()))


async def _sample_verifies(trial: Trial) -> Check:
    complaints = []
    for kept in trial.sample:
        answer = await trial.client.get(f"/credentials/{kept.id}/verify")
        verdict = answer.json() if answer.status_code == httpx.codes.OK else {}
        complaints += [f"{kept.id}: {text}" for text in _state_complaints(trial, kept, verdict)]
    issuer_count = len({kept.issuer_id for kept in trial.sample})
    key_count = len({kept.key_id for kept in trial.sample})
    figures = f"{len(trial.sample)} credentials of {issuer_count} issuers and {key_count} keys"
    return _verdict("sample verifies", complaints, figures)


def _state_complaints(trial: Trial, kept: credentials.Kept, verdict: dict[str, object]) -> Iterator[str]:
    if not verdict:
        yield "it could not be verified"
        return
    if not verdict["hasValidSignature"]:
        yield f"its proof is not valid ({verdict['details']})"
    marks = examining.purposes_of(trial.connection, kept.id)
    expected = {
        "isRevoked": REVOCATION in marks,
        "isSuspended": SUSPENSION in marks,
        "isExpired": kept.has_expired(trial.server.site.clock()),
    }
    for name, value in expected.items():
        if verdict[name] != value:
            yield f"{name} is {verdict[name]}, and by the rows {value}"


async def _lists_agree(trial: Trial) -> Check:
    complaints = examining.disagreements(trial.connection)
    served = 0
    for row in examining.lists_to_check(trial.connection):
        kept = statuses.find_list(trial.connection, row["id"])
        if statuses.fresh_document(kept, trial.server.site.clock()) is None and not trial.can_sign:
            continue
        answer = await trial.client.get(f"/status-lists/{row['id']}")
        if answer.status_code != httpx.codes.OK:
            complaints.append(f"/status-lists/{row['id']} answers {answer.status_code}")
            continue
        served += 1
        if complaint := examining.list_complaint(trial.connection, row, answer.text):
            complaints.append(f"/status-lists/{row['id']}: {complaint}")
    return _verdict("status lists agree", complaints, f"every bit; {served} signed lists read back")


def _keys_can_sign(server: Server, connection: sa.Connection) -> Check:
    bad, tried = examining.keys_that_cannot_sign(connection, server.site)
    complaints = [f"the key {id} does not fit its public part" for id in bad]
    return _verdict("keys can sign", complaints, f"{tried} keys in use")


async def _images_open(trial: Trial) -> Check:
    """The pictures themselves, and some badges baked into theirs and taken out again."""
    bad, looked_at = examining.unopened_images(trial.connection)
    complaints = [f"{name} is not what it claims" for name in bad]
    standing = (kept for kept in trial.sample if not examining.is_revoked(trial.connection, kept.id))
    baked = list(islice(standing, BAKED))
    for kept in baked:
        for form in ("png", "svg"):
            answer = await trial.client.get(f"/credentials/{kept.id}/image", params={"format": form})
            if not _holds(answer, kept):
                complaints.append(f"{kept.id} as {form} does not hold its badge ({answer.status_code})")
    return _verdict("images open", complaints, f"{looked_at} images, {len(baked)} badges baked")


def _holds(answer: httpx.Response, kept: credentials.Kept) -> bool:
    try:
        return baking.unbake(answer.content).text == kept.document
    except baking.NotBaked:
        return False


async def _references_hold(trial: Trial) -> Check:
    complaints = examining.broken_references(trial.connection)
    for kept in trial.sample:
        document = signatures.read(kept.document, kept.proof)
        found = verifying.contradictions(kept, document)
        if examining.misplaced(trial.connection, kept, document):
            found.append("it names other places in the status lists than its rows")
        complaints += [f"{kept.id}: {text}" for text in found]
    return _verdict("references hold", complaints, f"all rows; {len(trial.sample)} documents read")


async def _endorsements_verify(trial: Trial) -> Check:
    bad, looked_at = examining.unproven_endorsements(trial.connection)
    complaints = [f"the proof of the endorsement {id} is not valid" for id in bad]
    return _verdict("endorsements verify", complaints, f"{looked_at} endorsements")


async def _refuses_a_forgery(trial: Trial) -> Check:
    """A verifier that says yes to everything must not prove anything."""
    complaints = []
    shown = {signatures.suite_of(kept.document, kept.proof): kept for kept in trial.sample}
    for suite, kept in shown.items():
        try:
            verifying.check_proof(trial.connection, replace(kept, document=examining.forge(kept)))
        except signatures.BadSignature:
            continue
        complaints.append(f"a forged {suite} credential was accepted")
    return _verdict(
        "refuses a forgery", complaints, f"{len(shown)} kinds of proof: {', '.join(sorted(shown))}"
    )


STEPS: dict[str, Step] = {
    "lists answer": _lists_answer,
    "sample verifies": _sample_verifies,
    "status lists agree": _lists_agree,
    "images open": _images_open,
    "endorsements verify": _endorsements_verify,
    "references hold": _references_hold,
    "refuses a forgery": _refuses_a_forgery,
}
