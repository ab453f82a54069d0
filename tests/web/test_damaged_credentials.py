"""A credential that is damaged in the database: it is told of, and takes nothing else with it."""

import asyncio

import httpx
import pytest
import sqlalchemy as sa

from obms.databases import writing
from obms.schema import credentials
from tests.deployment import Deployment
from tests.web.conftest import Client


@pytest.fixture
def damaged(one: Client, sqlite: Deployment) -> str:
    """The id of one of two credentials, whose token is cut off."""
    achievement = one.add_achievement()
    id = one.issue(achievement)
    one.issue(achievement)
    with writing(sqlite.database.engine) as connection:
        connection.execute(sa.update(credentials).where(credentials.c.id == id).values(document="eyJhb.x"))
    return id


@pytest.mark.parametrize("path", ["/credentials", "/v3/credentials", "/achievements/{}/credentials"])
def test_a_list_tells_of_it_in_its_place_and_of_all_others(one: Client, damaged: str, path: str) -> None:
    achievement = one.get("/achievements").json()[0]["id"].rpartition("/")[2]
    answer = one.get(path.format(achievement))
    assert (answer.status_code, answer.headers["X-Total-Count"]) == (200, "2")
    shown = {each["id"].rpartition("/")[2]: each for each in answer.json()}
    assert "damaged" in shown.pop(damaged)["error"]
    assert all("credentialSubject" in each for each in shown.values())


def test_it_is_an_error_of_the_server_that_says_what_it_is(one: Client, damaged: str) -> None:
    answer = one.get(f"/credentials/{damaged}", key=None)
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == f"The credential {damaged} cannot be read as it is kept: it is damaged."


def test_it_is_the_same_where_credentials_are_kept_ready(one: Client, damaged: str) -> None:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=one.app)
        async with one.app.router.lifespan_context(one.app), httpx.AsyncClient(transport=transport) as client:
            return await client.get(f"http://test.invalid/credentials/{damaged}")

    assert asyncio.run(ask()).json()["status"] == 500


def test_a_batch_fails_for_it_alone(one: Client, damaged: str) -> None:
    other = next(
        each["id"].rpartition("/")[2] for each in one.get("/credentials").json() if "error" not in each
    )
    answer = one.get(f"/credentials/batch?ids={damaged},{other}").json()
    assert [each["success"] for each in answer["results"]] == [False, True]
    assert "damaged" in answer["results"][0]["error"]["message"]


def test_its_verdict_is_that_it_does_not_verify(one: Client, damaged: str) -> None:
    verdict = one.get(f"/credentials/{damaged}/verify", key=None)
    assert (verdict.status_code, verdict.json()["isValid"]) == (200, False)
