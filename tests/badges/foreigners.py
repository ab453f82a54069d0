"""Issuers of other servers: one that runs, over real HTTP, and one whose name is its key."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from openbadgeslib.ob3 import add_data_integrity_proof, build_status_list_credential, did_key_from_pem

from obms.badges import foreign
from obms.badges.fetching import Fetcher, Visit
from obms.badges.inquiry import Report
from obms.badges.keys import private_pem, public_pem
from obms.web import create_app
from tests.answering import Answer, Answering, answering
from tests.deployment import Deployment
from tests.web.conftest import Client

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
DID = did_key_from_pem(public_pem(KEY))
METHOD = f"{DID}#{DID.removeprefix('did:key:')}"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Abroad:
    """Another server of badges, and what verifies its badges from outside."""

    client: Client
    server: Answering

    def judge(self, content: bytes | str, recipient: str | None = None) -> Report:
        sent = content.encode() if isinstance(content, str) else content
        return judge(sent, recipient, allowed=(self.server.address,))

    def text(self, path: str) -> str:
        answer = self.client.get(path, key=None)
        assert answer.status_code == 200, answer.text
        return answer.text


@contextmanager
def abroad(folder: Path) -> Iterator[Abroad]:
    with answering() as server, Deployment.made(folder, None) as deployment:
        deployment.environment["BASE_URL"] = server.address
        application = deployment.application
        client = Client(app=create_app(application))

        def answer(path: str) -> Answer:
            found = client.get(path, key=None)
            kind = {"Content-Type": found.headers["content-type"]}
            return Answer(status=found.status_code, body=found.content, headers=kind)

        server.others = answer
        yield Abroad(client=client, server=server)
        application.database.engine.dispose()


def judge(
    content: bytes | str, recipient: str | None = None, *, allowed: tuple[str, ...] = (), now: datetime = NOW
) -> Report:
    """The report on a badge, of a verifier that has no database."""
    sent = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content

    def resolve(host: str, _port: int) -> list[str]:
        if allowed and host == "127.0.0.1":
            return [host]
        raise OSError(f"{host} is not known here")

    return foreign.judge(
        sent, Visit(Fetcher(allowed=allowed, resolve=resolve), lambda _url: None), now, recipient
    )


def credential(**more: Any) -> dict[str, Any]:
    """A credential of the issuer whose name is its key, not yet signed."""
    document = {
        "@context": [
            "https://www.w3.org/ns/credentials/v2",
            "https://purl.imsglobal.org/spec/ob/v3p0/context-3.0.3.json",
        ],
        "id": "https://elsewhere.example/1",
        "type": ["VerifiableCredential", "OpenBadgeCredential"],
        "issuer": {"id": DID, "type": ["Profile"], "name": "Elsewhere"},
        "validFrom": "2026-01-01T00:00:00Z",
        "credentialSubject": {
            "id": "mailto:zoë@example.org",
            "type": ["AchievementSubject"],
            "achievement": {
                "id": "https://elsewhere.example/a",
                "type": ["Achievement"],
                "name": "Náme",
                "description": "d",
                "criteria": {"narrative": "n"},
            },
        },
    }
    return {name: value for name, value in (document | more).items() if value is not None}


def with_proof(document: dict[str, Any], method: str = METHOD) -> str:
    signed = add_data_integrity_proof(document, private_pem(KEY), method, created=NOW)
    return json.dumps(signed, ensure_ascii=False)


def as_token(document: dict[str, Any], *, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A VC-JWT; a claim of None is left out."""
    payload = {"iss": DID, "jti": document.get("id"), "sub": "mailto:zoë@example.org", "nbf": 1767225600}
    kept = {name: value for name, value in (document | payload | claims).items() if value is not None}
    headers = {"kid": METHOD, "typ": "vc+jwt"} if header is None else header
    return jwt.encode(kept, KEY, algorithm="EdDSA", headers=headers)


def status_list(url: str, *bits: int, issuer: str = DID, purpose: str = "revocation", **more: Any) -> Answer:
    """A signed list with these bits set."""
    since = datetime(2026, 1, 1, tzinfo=UTC)
    document = build_status_list_credential(issuer, url, "revocation", bits, issued=since)
    document["credentialSubject"]["statusPurpose"] = purpose
    return Answer(body=with_proof(document | more).encode())


def entry(url: str, position: object = 5, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{url}#5",
        "type": "BitstringStatusListEntry",
        "statusPurpose": "revocation",
        "statusListIndex": str(position),
        "statusListCredential": url,
        **more,
    }
