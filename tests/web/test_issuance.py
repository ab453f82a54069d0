"""Credentials that are issued together: what each is told is what it is told alone."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy import event
from starlette.types import Message, Send

from obms.databases import writing
from obms.schema import audit_events, credentials, status_lists
from obms.web import create_app, issuance
from tests.deployment import API_KEY, Deployment
from tests.security.people import Person, add_person, expired_key, revoked_key
from tests.web.conftest import Client, order

UNKNOWN = "00000000-0000-4000-8000-000000000000"
ALONE = {"format": "json"}  # says what is meant anyway, and goes to the route
Ask = tuple[str | None, Any]  # a key, and a body
REFUSED = "refused@example.org"
# A database that takes all but the badges of one recipient, which is not hashed.
REFUSE = {
    "sqlite": f"""
        CREATE TRIGGER refuse BEFORE INSERT ON credentials WHEN NEW.recipient LIKE '%{REFUSED}%'
        BEGIN SELECT RAISE(ABORT, 'refused'); END""",
    "postgresql": f"ALTER TABLE credentials ADD CHECK (recipient::text NOT LIKE '%{REFUSED}%')",
}


def ask_together(client: Client, asked: Sequence[Ask], **more: Any) -> list[httpx.Response]:
    """Ask for all of them at the same time."""

    async def exchange() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=client.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test.invalid") as asking:
            posts = (
                asking.post("/credentials", headers={"X-API-Key": key} if key else {}, json=body, **more)
                for key, body in asked
            )
            return await asyncio.gather(*posts)

    return asyncio.run(exchange())


def count(deployment: Deployment, table: sa.Table) -> int:
    with deployment.database.engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def told(answer: httpx.Response) -> tuple[int, Any, set[str]]:
    """What an answer says, but for what is made anew for each."""
    body = answer.json()
    if answer.is_success:
        body = (set(body), body["credentialSubject"]["achievement"])
    return answer.status_code, body, set(answer.headers) - {"etag"}


def test_each_is_judged_on_its_own_as_it_is_alone(client: Client, deployment: Deployment) -> None:
    badge = client.add_achievement()
    issuer = client.get(f"/achievements/{badge.rpartition('/')[2]}").json()["issuer"].rpartition(":")[2]
    staff = add_person(deployment, "staff", "staff", issuer)
    nobody = add_person(deployment, "nobody")
    keys = [API_KEY, staff.key, nobody.key, expired_key(deployment, staff), revoked_key(deployment, staff)]
    asked: list[Ask] = [(key, order(badge)) for key in (*keys, None, "wrong")]
    asked += [
        (staff.key, order(badge, proof="data-integrity")),
        (staff.key, order(badge, proof="data-integrity", evidence=[{"narrative": "n" * 6000}] * 9)),
        (API_KEY, order(badge, proof="data-integrity", evidence=[{"id": "ht tp://x"}])),
        (API_KEY, order(badge, results=[{"resultDescription": "urn:unknown", "value": "1"}])),
        (API_KEY, order(badge, narrative="")),
        (API_KEY, order(UNKNOWN)),
        (API_KEY, order("https://elsewhere.example/achievements/1")),
        (API_KEY, {**order(badge), "more": 1}),
        (API_KEY, [order(badge)]),
        (API_KEY, json.loads("[" * 70 + "]" * 70)),
    ]
    alone = ask_together(client, asked, params=ALONE)
    together = ask_together(client, asked)
    assert [told(answer) for answer in together] == [told(answer) for answer in alone]
    codes = [answer.status_code for answer in together]
    assert codes == [201, 201, 403, 401, 401, 401, 401, 201, 201, 400, 400, 400, 404, *[400] * 4]
    issued = [answer.headers["location"].rpartition("/")[2] for answer in together if answer.is_success]
    for id in issued:
        assert client.get(f"/credentials/{id}/verify").json()["isValid"]
    _recorded(deployment, staff, issued)


def test_what_is_told_is_what_is_read_afterwards(client: Client) -> None:
    badge = client.add_achievement()
    bodies = [
        order(badge, proof=proof, expires="2999-01-01T00:00:00Z", narrative="Gut gemacht 🏅")
        for proof in ("data-integrity", "jwt")
    ]
    for answer in ask_together(client, [(API_KEY, body) for body in bodies]):
        read = client.get(f"/credentials/{answer.headers['location'].rpartition('/')[2]}")
        assert answer.content == read.content
        assert answer.headers["content-type"] == read.headers["content-type"]


def test_those_who_wait_share_a_commit(client: Client) -> None:
    badge, commits = client.add_achievement(), list[sa.Connection]()
    event.listen(client.app.state.server.database.engine, "commit", commits.append)
    answers = ask_together(client, [(API_KEY, order(badge))] * 20)
    assert {answer.status_code for answer in answers} == {201}
    assert len(commits) < len(answers)


def _recorded(deployment: Deployment, staff: Person, issued: list[str]) -> None:
    with deployment.database.engine.connect() as connection:
        found = sa.select(audit_events.c.subject, audit_events.c.actor, audit_events.c.action)
        acts = {subject: (actor, action) for subject, actor, action in connection.execute(found)}
    assert acts[issued[0]] == ("environment", "credential.issue")
    assert {acts[id] for id in issued[1:]} == {(staff.id, "credential.issue")}
    assert count(deployment, credentials) == 2 * len(issued)


def test_one_that_the_database_refuses_fails_no_other(client: Client, deployment: Deployment) -> None:
    badge = client.add_achievement()
    with writing(deployment.database.engine) as connection:
        connection.execute(sa.text(REFUSE[deployment.database.kind]))
    refused = {"type": "email", "identity": REFUSED, "hashed": False}
    asked = [(API_KEY, order(badge))] * 3
    answers = ask_together(client, [*asked, (API_KEY, order(badge, recipient=refused)), *asked])
    assert [answer.status_code for answer in answers] == [201, 201, 201, 409, 201, 201, 201]
    assert count(deployment, credentials) == 6


async def ask_in_pieces(client: Client, body: dict[str, object], send: Send) -> None:
    """As a server hands it on: the body comes piece by piece, and `send` is what goes out."""
    text = json.dumps(body).encode()
    pieces = iter((text[:20], text[20:]))
    headers = {"content-type": "application/json", "x-api-key": API_KEY, "content-length": str(len(text))}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v3/credentials",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> Message:
        piece = next(pieces, None)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": not text.endswith(piece)}

    await client.app(scope, receive, send)


def test_what_takes_long_to_sign_is_issued_by_itself(one: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """All other writers of SQLite would wait for it."""
    badge = one.add_achievement()
    monkeypatch.setattr(issuance, "SIGN_SECONDS", 0.0)
    answers = ask_together(one, [(API_KEY, order(badge))] * 3)
    assert [answer.status_code for answer in answers] == [201] * 3
    assert len({answer.headers["location"] for answer in answers}) == 3


def test_what_is_told_is_committed(client: Client, deployment: Deployment) -> None:
    badge, engine = client.add_achievement(), deployment.database.engine
    seen: list[tuple[int, bool]] = []

    async def send(message: Message) -> None:
        """As another process sees it when the answer goes out."""
        if message["type"] == "http.response.start":
            id = dict(message["headers"]).get(b"location", b"").decode().rpartition("/")[2]
            with engine.connect() as connection:
                query = sa.select(credentials.c.id).where(credentials.c.id == id)
                seen.append((message["status"], connection.execute(query).first() is not None))

    async def ask() -> None:
        bodies = [order(badge), order(UNKNOWN), order(badge)]
        await asyncio.gather(*(ask_in_pieces(client, body, send) for body in bodies))

    asyncio.run(ask())
    assert sorted(seen) == [(201, True), (201, True), (404, False)]


def test_where_nobody_knows_whether_it_is_committed_it_is_not_tried_again(postgresql: Deployment) -> None:
    """The commit itself fails, as it does when the connection is lost in it."""
    client = Client(app=create_app(postgresql.application))
    badge = client.add_achievement()
    with writing(postgresql.database.engine) as connection:
        for statement in (
            "CREATE SEQUENCE tries",
            """CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN PERFORM nextval('tries'); RAISE EXCEPTION 'no commit' USING ERRCODE = '57P01'; END$$""",
            """CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON credentials DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION fail()""",
        ):
            connection.execute(sa.text(statement))
    answers = ask_together(client, [(API_KEY, order(badge))] * 4)
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    with postgresql.database.engine.connect() as connection:
        tries = connection.execute(sa.text("SELECT last_value FROM tries")).scalar_one()
        taken = connection.execute(sa.select(sa.func.max(status_lists.c.next_index))).scalar_one()
    # No turn was tried again, and no order alone: the first of each fails the commit of all.
    assert tries <= taken == len(answers)
    client.app.state.server.database.engine.dispose()
