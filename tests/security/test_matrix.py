"""Every route of the OpenAPI document, asked by everyone: who may not gets nowhere, and who may does.

OWASP API1, API3 and API5: the objects, properties and functions of others.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import jwt
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.routing import APIRoute

from obms.badges import closing
from obms.databases import writing
from obms.schema import signing_keys, status_lists
from tests.deployment import API_KEY, Deployment
from tests.security.people import PASSWORD, Person, add_person, expired_key, revoked_key
from tests.security.rules import EVERYBODY, RULES, SIGNED_IN, STRANGERS, Rule, address, fill, rule_name
from tests.web.conftest import Client

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
FEW = frozenset({"stranger", "expired key", "owner elsewhere", "staff", "nobody in particular"})
numbers = count(1)


@dataclass(slots=True, kw_only=True)
class Stage:
    """The application, the headers by which each person asks, and what there is to ask for."""

    app: FastAPI
    deployment: Deployment
    headers: dict[str, dict[str, str]]
    facts: dict[str, str]
    persons: dict[str, Person] = field(default_factory=dict)

    def routes(self) -> Iterator[tuple[str, str, Rule]]:
        """What changes least first; of two that delete, the one further in."""
        paths: dict[str, dict[str, Any]] = self.app.openapi()["paths"]
        found = [(method.upper(), path) for path, methods in paths.items() for method in methods]
        for method, path in sorted(found, key=lambda one: (METHODS.index(one[0]), -len(one[1]))):
            yield method, path, RULES[rule_name(method, path)]


@pytest.fixture
def stage(client: Client, sqlite: Deployment) -> Stage:
    facts = _badges(client, sqlite)
    elsewhere = client.add_issuer().rpartition(":")[2]
    roles = {
        "admin": ("admin", None),
        "owner": ("owner", facts["issuer"]),
        "editor": ("editor", facts["issuer"]),
        "staff": ("staff", facts["issuer"]),
        "owner elsewhere": ("owner", elsewhere),
        "staff elsewhere": ("staff", elsewhere),
        "nobody in particular": (None, None),
        "self": (None, None),
        "other": (None, None),
        "closed account": ("admin", None),
    }
    persons = {
        name: add_person(sqlite, name.replace(" ", "-"), *role, password=PASSWORD if name == "self" else None)
        for name, role in roles.items()
    }
    add_person(sqlite, "with-password", password=PASSWORD)
    site = sqlite.application.site
    with writing(sqlite.database.engine) as connection:
        closing.set_active(connection, site, persons["closed account"].id, active=False)
    headers = {name: {"X-API-Key": person.key} for name, person in persons.items()}
    forged = jwt.encode({"sub": persons["admin"].id, "iat": 1, "exp": 9e9, "aud": "obms session"}, b"0" * 32)
    headers |= {
        "stranger": {},
        "wrong key": {"X-API-Key": API_KEY[:-1]},
        "expired key": {"X-API-Key": expired_key(sqlite, persons["admin"])},
        "revoked key": {"X-API-Key": revoked_key(sqlite, persons["admin"])},
        "forged address": {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "Forwarded": "for=::1"},
        "forged session": {"Authorization": f"Bearer {forged}"},
    }
    facts |= {"self": persons["self"].id, "other": persons["other"].id, "key": persons["self"].key_id}
    return Stage(app=client.app, deployment=sqlite, headers=headers, facts=facts, persons=persons)


def _badges(client: Client, deployment: Deployment) -> dict[str, str]:
    """An issuer with all that it can have; their bare ids."""
    issuer = client.add_issuer()
    achievement = client.add_achievement(issuer)
    credential = client.issue(achievement)
    with deployment.database.engine.connect() as connection:
        list_id = connection.execute(sa.select(status_lists.c.id)).scalars().first()
        key_id = connection.execute(sa.select(signing_keys.c.id)).scalars().first()
    return {
        "issuer": issuer.rpartition(":")[2],
        "achievement": achievement.rpartition("/")[2],
        "credential": credential,
        "list": str(list_id),
        "signing key": str(key_id),
        "asset": "picture",
    }


@asynccontextmanager
async def asking(stage: Stage) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=stage.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test.invalid") as client:
        yield client


async def ask(
    client: httpx.AsyncClient, stage: Stage, who: str, method: str, path: str, rule: Rule
) -> httpx.Response:
    facts = {**stage.facts, "number": str(next(numbers))}
    body: dict[str, Any] = {}
    if rule.content is not None:
        body = {"content": fill(rule.content, facts)}
    elif rule.body is not None:
        body = {"json": fill(rule.body, facts)}
    url = address(path, facts) + fill(rule.query, facts)
    return await client.request(method, url, headers=stage.headers[who], **body)


def contents(deployment: Deployment) -> dict[str, str]:
    """A digest of each table but the lists: one that is asked for may have to be signed anew."""
    digests = deployment.database.facts().digests
    return {name: digest for name, digest in digests.items() if name != "status_lists"}


def test_every_route_has_a_rule(client: Client) -> None:
    found = {
        rule_name(method, path)
        for path, methods in client.app.openapi()["paths"].items()
        for method in methods
    }
    assert sorted(found - RULES.keys()) == [], "say in rules.py who may"


def test_who_may_not_gets_nowhere_and_changes_nothing(stage: Stage) -> None:
    before = contents(stage.deployment)
    wrong = asyncio.run(_refusals(stage))
    assert "\n".join(wrong) == ""
    assert contents(stage.deployment) == before


async def _refusals(stage: Stage, only: str | None = None) -> list[str]:
    found = []
    async with asking(stage) as client:
        for method, path, rule in stage.routes():
            if only not in (None, path):
                continue
            for who in sorted(_refused_by(rule, path)):
                answer = await ask(client, stage, who, method, path, rule)
                if not _is_refused(answer, who, rule):
                    found.append(f"{who}: {method} {path} -> {answer.status_code} {answer.text[:200]}")
    return found


def _refused_by(rule: Rule, path: str) -> frozenset[str]:
    """By its other names a route is the same one: there a few are enough."""
    return (EVERYBODY - rule.who) & (FEW if _is_another_name(path) else EVERYBODY)


def _is_another_name(path: str) -> bool:
    return path.startswith(("/v2/", "/v3/")) or any(
        word in path for word in ("/assertions", "/badge-classes")
    )


def _is_refused(answer: httpx.Response, who: str, rule: Rule) -> bool:
    if who in STRANGERS and rule.who:
        told = {"success": False, "error": "Authentication required"}
        return answer.status_code == 401 and told.items() <= answer.json().items()
    if rule.per_item and answer.status_code < 400:
        return bool(answer.json()["summary"]["successful"] == 0)
    return answer.status_code == 403 or (not rule.example and 400 <= answer.status_code < 500)


def test_who_may_does(stage: Stage) -> None:
    assert asyncio.run(_admissions(stage)) == []


async def _admissions(stage: Stage) -> list[str]:
    found = []
    async with asking(stage) as client:
        for method, path, rule in stage.routes():
            allowed = [who for who in _in_order(rule) if who in rule.who]
            allowed = allowed[:1] if _is_another_name(path) else allowed
            for place, who in enumerate(allowed):
                answer = await ask(client, stage, who, method, path, rule)
                refused = answer.status_code in (401, 403) or answer.status_code >= 500
                # What the first did may be done: the next one finds it deleted, or revoked.
                failed = place == 0 and rule.example and method != "DELETE" and answer.status_code >= 400
                if refused or (failed and answer.status_code not in (409, 410)):
                    found.append(f"{who}: {method} {path} -> {answer.status_code} {answer.text[:200]}")
    return found


def _in_order(rule: Rule) -> list[str]:
    """Those with the least rights first. Where everybody may, three stand for all."""
    if rule.who == EVERYBODY:
        return ["stranger", "wrong key", "staff elsewhere"]
    if rule.who == SIGNED_IN:
        return ["nobody in particular", "staff elsewhere", "admin"]
    return ["self", "owner elsewhere", "staff", "editor", "owner", "admin"]


def test_the_matrix_would_see_a_route_that_lets_everybody_in(stage: Stage) -> None:
    def let_in() -> list[str]:
        return []

    stage.app.router.routes.insert(0, APIRoute("/users", let_in, methods=["GET"]))
    wrong = asyncio.run(_refusals(stage, "/users"))
    assert {line.partition(":")[0] for line in wrong} == EVERYBODY - {"admin"}
    assert all(": GET /users ->" in line for line in wrong)
