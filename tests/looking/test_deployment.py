"""The tests of a running server: passed by a sound one, and each says no to what it is there for."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from obms.badges import credentials as kept_credentials
from obms.badges import examining, statuses
from obms.databases import writing
from obms.domain import REVOCATION, SUSPENSION, Purpose
from obms.looking.deployment import STEPS, examine
from obms.looking.logs import read_log
from obms.looking.outside import Outside
from obms.looking.samples import NOBODY, of_database, of_key, spread
from obms.looking.visit import Visit, take
from obms.observe import utc_now
from obms.schema import credentials, revocations, status_entries, status_lists
from obms.web import create_app
from tests.deployment import API_KEY, Answer, Deployment
from tests.serving import serving

Change = Callable[[Any], Any]


@dataclass(slots=True)
class Spoiled(httpx.BaseTransport):
    """The way to a real application; what stands at some paths is changed on the way back."""

    app: FastAPI
    changes: dict[str, Change] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    breaks: int = 0
    enough: int = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.breaks:
            self.breaks -= 1
            raise httpx.ReadError("reset")
        if self.enough:
            self.enough -= 1
            return httpx.Response(429, headers={"Retry-After": "0.01"})
        answer = asyncio.run(self._ask(request))
        path = request.url.path
        for end, status in self.statuses.items():
            if path.endswith(end) and "X-API-Key" not in request.headers:
                return httpx.Response(status, json={})
        for end, change in self.changes.items():
            if path.endswith(end):
                return httpx.Response(answer.status_code, json=change(answer.json()))
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test.invalid") as client:
            return await client.get(str(request.url), headers=request.headers)


@pytest.fixture
def way(stocked_sqlite: Deployment) -> Iterator[Spoiled]:
    server = stocked_sqlite.application
    yield Spoiled(create_app(server))
    server.database.engine.dispose()


def looked_at(server: Deployment, way: Spoiled, size: int = 6) -> Visit:
    outside = Outside(client=httpx.Client(transport=way, base_url="http://test.invalid"))
    sample = of_database(server.database, utc_now(), size)
    assert sample is not None
    return Visit(outside=outside, sample=sample, now=utc_now())


def found_by(name: str, visit: Visit) -> bool:
    """Whether this check says no."""
    return not take(name, STEPS[name], visit).ok


def without(name: str) -> Change:
    """The last of a list that a document has is left out."""
    return lambda document: {**document, name: document[name][:-1]}


def said(**members: Any) -> Change:
    return lambda document: {**document, **members}


def test_an_answer_that_is_not_as_it_should_be_is_told(stocked_sqlite: Deployment, way: Spoiled) -> None:
    """Each check says yes to the sound answers, and no when one of them is spoiled."""
    cases: list[tuple[str, Change, str]] = [
        ("/.well-known/jwks.json", without("keys"), "keys are published"),
        ("/.well-known/did.json", without("verificationMethod"), "keys are published"),
        ("/did.json", said(verificationMethod=[]), "credentials verify"),
        ("/verify", said(isRevoked=True), "credentials verify"),
        ("/verify", said(isExpired=True), "credentials verify"),
        ("/verify", said(hasValidSignature=False), "credentials verify"),
        ("/verify", said(isRevoked=True), "hosted assertions answer"),
        ("/issuers", lambda found: found[1:], "lists answer"),
        ("/issuers", lambda found: [{**one, "name": "other"} for one in found], "each answers"),
    ]
    for name in {name for _, _, name in cases}:
        assert not found_by(name, looked_at(stocked_sqlite, way)), name
    for path, change, name in cases:
        way.changes = {path: change}
        assert found_by(name, looked_at(stocked_sqlite, way)), (path, name)


def test_a_route_that_answers_otherwise_is_told(stocked_sqlite: Deployment, way: Spoiled) -> None:
    for path, status, name in (
        ("/credentials", 200, "describes itself"),
        ("/openapi.json", 404, "describes itself"),
        ("/achievements", 404, "lists answer"),
    ):
        way.statuses = {path: status}
        assert found_by(name, looked_at(stocked_sqlite, way)), path
    way.statuses = {"/metrics": 502}
    visit = looked_at(stocked_sqlite, way)
    assert not found_by("describes itself", visit)
    assert visit.outside.broken == ["/metrics answers 502"]


def test_only_the_health_is_told_of_a_server_without_a_database(
    stocked_sqlite: Deployment, way: Spoiled
) -> None:
    way.changes["/health"] = said(database={"type": "sqlite", "connected": False, "error": "It is gone."})
    checks = examine(looked_at(stocked_sqlite, way))
    assert [(check.name, check.ok) for check in checks] == [
        ("health", False),
        ("no error of the server", True),
    ]
    assert "It is gone." in checks[0].detail


def test_a_judge_that_nobody_names_a_badge_to_proves_nothing(
    stocked_sqlite: Deployment, way: Spoiled
) -> None:
    visit = replace(looked_at(stocked_sqlite, way), sample=NOBODY)
    assert found_by("credentials verify", visit)


def test_the_key_of_a_stranger_names_no_badges(stocked_sqlite: Deployment, way: Spoiled) -> None:
    outside = looked_at(stocked_sqlite, way).outside
    assert of_key(outside, "no key", 40) is None
    found = of_key(outside, API_KEY, 12)
    assert found is not None
    assert len({held.id for held in found.held}) == 12


def test_a_sample_is_as_large_as_was_asked_for(stocked_sqlite: Deployment) -> None:
    for size, wanted in ((5, 5), (29, 29), (500, 30)):
        found = of_database(stocked_sqlite.database, utc_now(), size)
        assert found is not None
        assert len({held.id for held in found.held}) == wanted
    assert spread([1, 2, 3, 4], 2) == [1, 3]


def bad(answer: Answer) -> set[str]:
    return {check["name"] for check in answer.json["checks"] if not check["ok"]}


def change_a_document(server: Deployment) -> None:
    """One character of what a badge says of its holder."""
    with writing(server.database.engine) as connection:
        marked = sa.select(revocations.c.credential_id)
        id = connection.scalar(
            sa.select(sa.func.max(credentials.c.id)).where(credentials.c.id.not_in(marked))
        )
        one = kept_credentials.find(connection, str(id))
        changed = sa.update(credentials).where(credentials.c.id == id)
        connection.execute(changed.values(document=examining.forge(one)))


def forget_a_bit(server: Deployment, purpose: Purpose = REVOCATION) -> None:
    """A badge is revoked, or suspended, and its list was signed before and says that it is not."""
    site = server.application.site
    with writing(server.database.engine) as connection:
        marked = sa.select(revocations.c.credential_id)
        id = connection.scalar(
            sa.select(sa.func.min(credentials.c.id)).where(credentials.c.id.not_in(marked))
        )
        entries = sa.select(status_entries.c.list_id).where(
            status_entries.c.credential_id == id, status_entries.c.purpose == purpose
        )
        old = statuses.sign_list(connection, site, str(connection.scalar(entries)))
        mark = statuses.revoke if purpose == REVOCATION else statuses.suspend
        mark(connection, site, str(id))
        stale = sa.update(status_lists).where(status_lists.c.id == connection.scalar(entries))
        connection.execute(stale.values(document=old, signed_at=utc_now()))


def test_a_suspension_that_a_list_lacks_is_told_though_no_badge_names_its_place(
    stocked_sqlite: Deployment, way: Spoiled
) -> None:
    assert not found_by("status lists agree", looked_at(stocked_sqlite, way, 30))
    forget_a_bit(stocked_sqlite, SUSPENSION)
    assert found_by("status lists agree", looked_at(stocked_sqlite, way, 30))


def test_a_sound_server_passes_and_a_damaged_one_does_not(stocked: Deployment) -> None:
    """A real server of each kind, and its real log; without its database the API key names the badges."""
    log = str(stocked.folder / "uvicorn.log")
    with serving(stocked, 1) as url:
        ask = ("verify-deployment", "--url", url, "--json", "--sample", "15")
        answer = stocked.obms(*ask, "--log", log)
        assert answer.code == 0, answer.err
        assert answer.json["ok"]
        assert answer.json["source"] == f"the {stocked.database.kind} database"
        assert {check["name"] for check in answer.json["checks"]} >= {*STEPS, "log"}
        forget_a_bit(stocked)
        away = {"DATABASE_URL": "", "DB_TYPE": "sqlite", "SQLITE_FILE": "/nowhere/at/all.db"}
        answer = stocked.obms(*ask, "--sample", "30", **away)
        assert answer.code == 6
        assert answer.json["source"] == "the API key"
        assert bad(answer) == {"status lists agree"}
        change_a_document(stocked)
        answer = stocked.obms(*ask, "--sample", "30", "--log", log)
        assert answer.code == 6
        assert bad(answer) == {"status lists agree", "credentials verify", "no error of the server", "log"}
    assert "Traceback" in Path(log).read_text("utf-8")
    assert "\u256d" not in Path(log).read_text("utf-8"), "a trace with the values of variables, in boxes"
    assert stocked.obms(*ask).code == 3


def test_errors_in_a_log_are_told() -> None:
    log = read_log(
        [
            "api_1  | timestamp=2026-11-22T00:00:00Z level=info event=a said=ERROR-free\n",
            "api_1  | timestamp=2026-11-22T00:00:00Z level=error event='request failed'\n",
            "ERROR:    Exception in ASGI application\n",
            "Traceback (most recent call last):\n",
            "db_1  | 2026-11-22 00:00:00 UTC [1] FATAL:  the database system is shutting down\n",
        ]
    )
    assert (log.lines, log.errors, len(log.first)) == (5, 4, 3)
    assert "request failed" in log.first[0]


def test_a_way_that_breaks_once_is_taken_again(stocked_sqlite: Deployment, way: Spoiled) -> None:
    """And a server that has had enough for now is asked later."""
    way.breaks, way.enough = 1, 1
    assert not found_by("lists answer", looked_at(stocked_sqlite, way))
    assert (way.breaks, way.enough) == (0, 0)


def test_the_address_is_that_of_the_settings(stocked_sqlite: Deployment) -> None:
    stocked_sqlite.environment["PORT"] = "9"
    answer = stocked_sqlite.obms("verify-deployment")
    assert answer.code == 3
    assert "http://localhost:9" in answer.err
    assert len(answer.err.splitlines()) == 1
