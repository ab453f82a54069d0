"""For every route: who may, and a request that shows it. A route without a rule here fails the tests."""

import re
from dataclasses import dataclass
from typing import Any

from tests.security.people import PASSWORD
from tests.web.conftest import ISSUER

NOBODY: frozenset[str] = frozenset()
ADMIN = frozenset({"admin"})
OWNER = ADMIN | {"owner"}
EDITORS = OWNER | {"editor"}
STAFF = EDITORS | {"staff"}
SELF = ADMIN | {"self"}
# Editors of any issuer: what they keep belongs to none.
MAKERS = EDITORS | {"owner elsewhere"}
SIGNED_IN = STAFF | SELF | {"owner elsewhere", "staff elsewhere", "nobody in particular"}
STRANGERS = (
    "stranger",
    "wrong key",
    "expired key",
    "revoked key",
    "closed account",
    "forged address",
    "forged session",
)
EVERYBODY = SIGNED_IN | set(STRANGERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who may; `body` and `query`, with `{issuer}` and so on in them, are a request that works.

    `per_item`: to others it answers, for each item, that they may not. `example` false: no request
    that works is known here, so that only the refusals are looked at.
    """

    who: frozenset[str]
    body: Any = None
    query: str = ""
    per_item: bool = False
    example: bool = True
    content: bytes | None = None


ORDER = {
    "recipient": {"type": "email", "identity": "zoe@example.org"},
    "badge": "{achievement}",
    "issuedOn": "2026-01-01T00:00:00Z",
    "proof": "jwt",
}
BADGE = {
    "name": "n",
    "description": "d",
    "criteria": {"narrative": "n"},
    "image": "https://school.example.org/badge.png",
    "issuer": "{issuer}",
}
NEW_USER = {"username": "new{number}", "email": "new{number}@example.org", "password": PASSWORD}
STATUS = {"status": "suspended"}
PICTURE = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><title>{number}</title></svg>'

# The paths as in the OpenAPI document, without /v2 and /v3, the older names put into today's words.
RULES = {
    "GET /": Rule(who=EVERYBODY),
    "GET /health": Rule(who=EVERYBODY),
    "GET /health/deep": Rule(who=ADMIN),
    "GET /version": Rule(who=EVERYBODY),
    "GET /metrics": Rule(who=EVERYBODY),
    "GET /.well-known/did.json": Rule(who=EVERYBODY),
    "GET /.well-known/jwks.json": Rule(who=EVERYBODY),
    "GET /public-keys": Rule(who=EVERYBODY),
    "GET /keys/{}": Rule(who=EVERYBODY),
    "POST /assets": Rule(who=MAKERS, content=PICTURE),
    "GET /assets/{}": Rule(who=EVERYBODY, example=False),
    "POST /verify": Rule(who=EVERYBODY, example=False),
    # Issuers
    "GET /issuers": Rule(who=EVERYBODY),
    "POST /issuers": Rule(who=ADMIN, body=ISSUER),
    "GET /issuers/{}": Rule(who=EVERYBODY),
    "PUT /issuers/{}": Rule(who=OWNER, body=ISSUER),
    "DELETE /issuers/{}": Rule(who=OWNER, example=False),
    "GET /issuers/{}/did.json": Rule(who=EVERYBODY),
    "GET /issuers/{}/achievements": Rule(who=EVERYBODY),
    "GET /issuers/{}/revocations": Rule(who=EVERYBODY),
    "GET /issuers/{}/members": Rule(who=OWNER),
    "PUT /issuers/{}/members/{}": Rule(who=OWNER, body={"role": "staff"}),
    "DELETE /issuers/{}/members/{}": Rule(who=OWNER),
    # Achievements
    "GET /achievements": Rule(who=EVERYBODY),
    "POST /achievements": Rule(who=EDITORS, body=BADGE),
    "GET /achievements/{}": Rule(who=EVERYBODY),
    "PUT /achievements/{}": Rule(who=EDITORS, body=BADGE),
    "DELETE /achievements/{}": Rule(who=EDITORS, example=False),
    "GET /achievements/{}/credentials": Rule(who=STAFF),
    "GET /achievements/{}/related": Rule(who=EVERYBODY),
    "POST /achievements/{}/related": Rule(
        who=EDITORS, body={"id": "https://school.example.org/other", "type": ["Related"]}, example=False
    ),
    "DELETE /achievements/{}/related/{}": Rule(who=EDITORS, example=False),
    "GET /achievements/{}/endorsements": Rule(who=EVERYBODY),
    "POST /achievements/{}/endorsements": Rule(who=EDITORS, body={}, example=False),
    # Credentials
    "GET /credentials": Rule(who=SIGNED_IN),
    "POST /credentials": Rule(who=STAFF, body=ORDER),
    "GET /credentials/batch": Rule(who=SIGNED_IN, query="?ids={credential}"),
    "POST /credentials/batch": Rule(who=STAFF, body={"credentials": [ORDER]}, per_item=True),
    "PUT /credentials/batch/status": Rule(
        who=STAFF, body={"updates": [{"id": "{credential}", **STATUS}]}, per_item=True
    ),
    "GET /credentials/{}": Rule(who=EVERYBODY),
    "PUT /credentials/{}": Rule(who=STAFF, body=ORDER),
    "DELETE /credentials/{}": Rule(who=STAFF),
    "GET /credentials/{}/image": Rule(who=EVERYBODY),
    "GET /credentials/{}/verify": Rule(who=EVERYBODY),
    "POST /credentials/{}/revoke": Rule(who=STAFF),
    "POST /credentials/{}/status": Rule(who=STAFF, body=STATUS),
    "POST /credentials/{}/suspend": Rule(who=STAFF),
    "POST /credentials/{}/unsuspend": Rule(who=STAFF),
    "POST /credentials/{}/sign": Rule(who=STAFF),
    "GET /status-lists": Rule(who=EVERYBODY),
    "POST /status-lists": Rule(who=EDITORS, body={"purpose": "revocation", "issuer": "{issuer}"}),
    "GET /status-lists/{}": Rule(who=EVERYBODY),
    "GET /status-lists/{}/stats": Rule(who=STAFF),
    # The VC-API
    "POST /vc/credentials/issue": Rule(who=STAFF, body={"credential": {}}, example=False),
    "POST /vc/credentials/verify": Rule(who=EVERYBODY, body={"verifiableCredential": {}}, example=False),
    "POST /vc/presentations/verify": Rule(who=EVERYBODY, body={"verifiablePresentation": {}}, example=False),
    # People
    "POST /auth/login": Rule(who=EVERYBODY, body={"usernameOrEmail": "with-password", "password": PASSWORD}),
    "POST /auth/register": Rule(who=NOBODY, body=NEW_USER),
    "GET /auth/profile": Rule(who=SIGNED_IN),
    "GET /audit": Rule(who=ADMIN),
    "GET /users": Rule(who=ADMIN),
    "POST /users": Rule(who=ADMIN, body=NEW_USER),
    "GET /users/{}": Rule(who=SELF),
    "PUT /users/{}": Rule(who=ADMIN, body={"email": "put@example.org"}),
    "PATCH /users/{}": Rule(who=ADMIN, body={"email": "patch@example.org"}),
    "DELETE /users/{}": Rule(who=ADMIN),
    "POST /users/{}/password": Rule(who=SELF, body={"currentPassword": PASSWORD, "newPassword": PASSWORD}),
    "POST /users/{}/change-password": Rule(
        who=SELF, body={"currentPassword": PASSWORD, "newPassword": PASSWORD}
    ),
    "GET /users/{}/api-keys": Rule(who=SELF),
    "POST /users/{}/api-keys": Rule(who=SELF, body={"description": "d"}),
    "DELETE /users/{}/api-keys/{}": Rule(who=SELF),
}

OLDER = {"badge-classes": "achievements", "assertions": "credentials"}
AFTER = {
    "issuers": "issuer",
    "achievements": "achievement",
    "related": "achievement",
    "credentials": "credential",
    "status-lists": "list",
    "keys": "signing key",
    "members": "other",
    "users": "self",
    "api-keys": "key",
    "assets": "asset",
}


def rule_name(method: str, path: str) -> str:
    """What the route is called in RULES."""
    path = re.sub(r"^/v[23](?=/)", "", re.sub(r"\{[^}]+\}", "{}", path))
    words = (OLDER.get(word, word) for word in path.split("/"))
    return f"{method.upper()} {'/'.join(words)}"


def fill(value: Any, facts: dict[str, str]) -> Any:
    """The value with what is in braces put in."""
    if isinstance(value, dict):
        return {name: fill(inner, facts) for name, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, facts) for inner in value]
    if isinstance(value, bytes):
        return value.replace(b"{number}", facts["number"].encode())
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda found: facts[found[1]], value)
    return value


def address(path: str, facts: dict[str, str]) -> str:
    """The path with an id for each name in braces, known by the word before it."""
    words = path.split("/")
    return "/".join(
        facts[AFTER[OLDER.get(before, before)]] if word.startswith("{") else word
        for before, word in zip(["", *words], words, strict=False)
    )
