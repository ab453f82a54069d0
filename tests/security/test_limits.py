"""How often one client may ask, and whose word is taken for who a client is (OWASP API4, API6)."""

import asyncio
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from obms.web import create_app
from obms.web.limits import name_of
from tests.deployment import API_KEY, Deployment

OUTSIDE, ELSEWHERE, PROXY = "203.0.113.7", "198.51.100.9", "10.0.0.2"


def limited(deployment: Deployment, **settings: str) -> ASGIApp:
    deployment.environment |= {"RATE_LIMIT": "3/day", **settings}
    return create_app(deployment.application)


def ask(app: ASGIApp, client: str, path: str = "/version", **more: Any) -> httpx.Response:
    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, client=(client, 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://test.invalid") as asked:
            return await asked.get(path, **more)

    return asyncio.run(exchange())


def statuses(app: ASGIApp, times: int, client: str = OUTSIDE, **more: Any) -> list[int]:
    return [ask(app, client, **more).status_code for _ in range(times)]


def test_a_client_that_asks_too_often_is_told_when_to_come_back(sqlite: Deployment) -> None:
    app = limited(sqlite)
    assert statuses(app, 4) == [200, 200, 200, 429]
    answer = ask(app, OUTSIDE)
    assert 0 < int(answer.headers["retry-after"]) <= 86400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ask(app, OUTSIDE, headers={"X-API-Key": API_KEY}).status_code == 429
    assert ask(app, ELSEWHERE).status_code == 200, "another client pays for it"
    assert ask(app, OUTSIDE, "/health").status_code == 200


def test_a_forged_address_is_not_believed(sqlite: Deployment) -> None:
    app = limited(sqlite)
    for number in range(3):
        forged = {"X-Forwarded-For": f"192.0.2.{number}", "X-Real-IP": "127.0.0.1", "Forwarded": "for=::1"}
        assert ask(app, OUTSIDE, headers=forged).status_code == 200
    assert ask(app, OUTSIDE, headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 429


def test_a_trusted_proxy_tells_who_asks_and_a_client_behind_it_cannot(sqlite: Deployment) -> None:
    app = limited(sqlite, TRUSTED_PROXIES="10.0.0.0/8")
    # What the client wrote stands to the left of what the proxy added.
    through = [f"192.0.2.{number}, {OUTSIDE}" for number in range(3)] + [f"127.0.0.1, {OUTSIDE}"]
    found = [ask(app, PROXY, headers={"X-Forwarded-For": value}).status_code for value in through]
    assert found == [200, 200, 200, 429]
    assert ask(app, PROXY, headers={"X-Forwarded-For": ELSEWHERE}).status_code == 200
    assert ask(app, OUTSIDE, headers={"X-Forwarded-For": ELSEWHERE}).status_code == 429, (
        "who is no proxy was believed"
    )


def test_this_machine_is_not_limited_unless_it_is_set(sqlite: Deployment) -> None:
    assert statuses(limited(sqlite), 5, "127.0.0.1") == [200] * 5
    assert statuses(limited(sqlite, RATE_LIMIT_EXEMPT="none"), 4, "127.0.0.1")[-1] == 429
    assert statuses(limited(sqlite, RATE_LIMIT_EXEMPT=f"{OUTSIDE} ::1"), 5) == [200] * 5
    assert statuses(limited(sqlite, RATE_LIMIT="off"), 5) == [200] * 5


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", OUTSIDE),
        (OUTSIDE, OUTSIDE),
        ("a socket", "a socket"),
    ],
)
def test_a_client_is_a_network_of_ipv6_and_an_address_of_ipv4(host: str, name: str) -> None:
    assert name_of(host, ()) == name
