"""The OpenAPI document is believed: what it allows is asked, and what it forbids, and each answer is in it.

Schemathesis makes the requests and judges the answers. It runs in this process, without a network, and the
same each time.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest
import schemathesis
import sqlalchemy as sa
from fastapi import FastAPI
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from obms import schema as tables
from obms.badges.fetching import Fetcher
from obms.web import create_app
from tests.deployment import API_KEY, Deployment
from tests.security.people import PASSWORD, add_person

POOLS = {
    "issuer_id": tables.issuers.c.id,
    "achievement_id": tables.achievements.c.id,
    "credential_id": tables.credentials.c.id,
    "list_id": tables.status_lists.c.id,
    "key_id": tables.signing_keys.c.id,
    "user_id": tables.users.c.id,
    "name": tables.images.c.name,
}
# The same routes by their other names.
OTHER_NAMES = r"^/(v2|v3|badge-classes|assertions)(/|$)|/badge-classes|/assertions"
# The bodies with so many members that all their combinations take longer than all the rest.
BROAD = r"^/(achievements|credentials)(/\{\w+\})?$"
# Whether they are accepted hangs on what no schema can say, so that 400 may be right for what it allows.
BEYOND_A_SCHEMA = {
    r"/issuers(/\{\w+\})?$": "an id that is told must be the one in the path",
    r"/(achievements|badge-classes)": "its issuer, and what it is related to, must be here or have a URL",
    r"/(credentials|assertions)": "its achievement must be here, and it must end after it begins",
    r"/status-lists$": "its issuer must be here, and its size a multiple of 8",
    r"^/assets$": "the bytes must be a picture",
    r"/verify$": "it must hold something, and a 400 of the VC-API is a verdict",
    r"^/vc/": "its issuer must be here",
    r"^/users/\{user_id\}/(change-)?password$": "one's own is changed by the one there is",
}
# A revoked credential is gone, however valid the request.
ACCEPTED = ["2xx", "3xx", "401", "403", "404", "409", "410", "429"]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What was asked, what was answered, and what is wrong with that."""

    statuses: Counter[int] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    operations: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def take(self, event: events.EngineEvent) -> None:
        if isinstance(event, events.NonFatalError | events.FatalError):
            self.wrong.append(repr(event))
        if not isinstance(event, events.ScenarioFinished):
            return
        self.operations.add(event.recorder.label)
        for each in event.recorder.interactions.values():
            self.statuses[int(each.response.status_code) if each.response else 0] += 1
        for nodes in event.recorder.checks.values():
            for node in nodes:
                self.checks[node.name] += 1
                if node.failure_info:
                    failure = node.failure_info.failure
                    shown = f"{event.recorder.label}: {failure.title}: {failure.message}"
                    self.wrong.append(f"{shown}\n{node.failure_info.code_sample[:1000]}")


def no_network(host: str, _port: int) -> list[str]:
    raise OSError(host)


@pytest.fixture
def stocked_app(sqlite: Deployment) -> Iterator[FastAPI]:
    """An application with badges of every standing in it, that counts nobody's requests."""
    sqlite.environment |= {"RATE_LIMIT": "off", "LOGIN_RATE_LIMIT": "off"}
    sqlite.seed(60)
    add_person(sqlite, "zoe", password=PASSWORD)
    server = replace(sqlite.application, fetcher=Fetcher(resolve=no_network))
    yield create_app(server)
    server.database.engine.dispose()


def ids_of(app: FastAPI) -> dict[str, list[str]]:
    """What there is, by the names that paths give it."""
    with app.state.server.database.engine.connect() as connection:
        found = {name: connection.execute(sa.select(column)).scalars() for name, column in POOLS.items()}
        return {name: sorted(ids) for name, ids in found.items()}


def ask(app: FastAPI, options: dict[str, Any], *, but: str = "^$") -> Outcome:
    """Ask what is there in two of three requests, and else whatever comes."""
    ids, numbers = ids_of(app), count()
    config = SchemathesisConfig.from_dict(options)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config).exclude(path_regex=but)

    @schema.hook
    def map_path_parameters(_context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        for name in ids.keys() & (path_parameters or {}).keys():
            number = next(numbers)
            if path_parameters and number % 3:
                path_parameters[name] = ids[name][number % len(ids[name])]
        return path_parameters

    outcome = Outcome()
    for event in from_schema(schema).execute():
        outcome.take(event)
    return outcome


def settings(*, examples: int, headers: dict[str, str], coverage: bool) -> dict[str, Any]:
    """Every check that Schemathesis has, but for what is named in BEYOND_A_SCHEMA."""
    off = {"coverage": {"enabled": False}}
    return {
        "seed": 1,
        "workers": 1,
        "continue-on-failure": True,
        "headers": headers,
        "generation": {
            "deterministic": True,
            "database": "none",
            "max-examples": examples,
            "with-security-parameters": False,
        },
        "phases": {"coverage": {"enabled": coverage}, "stateful": {"enabled": False}},
        "checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}},
        "operations": [
            {"include-path-regex": OTHER_NAMES, "phases": off, "generation": {"max-examples": 1}},
            {"include-path-regex": BROAD, "include-method": ["POST", "PUT"], "phases": off},
            *(
                {
                    "include-path-regex": path,
                    "exclude-method": ["GET"],
                    "checks": {"positive_data_acceptance": {"enabled": False}},
                }
                for path in BEYOND_A_SCHEMA
            ),
        ],
    }


def operations_of(app: FastAPI) -> set[str]:
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def test_an_admin_gets_no_answer_that_is_not_in_the_document(stocked_app: FastAPI) -> None:
    outcome = ask(stocked_app, settings(examples=1, headers={"X-API-Key": API_KEY}, coverage=True))
    assert "\n\n".join(outcome.wrong[:5]) == ""
    assert outcome.operations == operations_of(stocked_app)
    assert {200, 201, 204, 400, 401, 404, 405, 409, 410} <= outcome.statuses.keys()


def test_a_stranger_gets_no_answer_that_is_not_in_the_document(stocked_app: FastAPI) -> None:
    """By the names of today alone: by the others, who may not is shown with the matrix of rights."""
    outcome = ask(stocked_app, settings(examples=3, headers={}, coverage=False), but=OTHER_NAMES)
    assert "\n\n".join(outcome.wrong[:5]) == ""
    assert {200, 400, 401, 404} <= outcome.statuses.keys()
