"""S3 and S5: the database goes away under the API; many clients at once on a fresh one."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier

import httpx
import pytest
import sqlalchemy as sa

from obms.badges import verifying
from obms.observe import utc_now
from obms.schema import credentials, metadata, signing_keys, status_entries, status_lists
from tests.deployment import API_KEY, Deployment
from tests.real_faults import wait_until
from tests.serving import serving
from tests.web.conftest import ISSUER, Client, order

CLIENTS = 16


@contextmanager
def away(deployment: Deployment) -> Iterator[None]:
    """The database is really not there: its server is stopped, or its files are moved."""
    if deployment.postgres is not None:
        deployment.postgres.stop("immediate")
        try:
            yield
        finally:
            deployment.postgres.start()
        return
    folder = Path(deployment.environment["SQLITE_FILE"]).parent
    elsewhere = folder.with_name("elsewhere")
    folder.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(folder)


def test_s3_the_api_says_so_while_the_database_is_away_and_works_when_it_is_back(
    client: Client, deployment: Deployment
) -> None:
    id = client.issue()
    assert client.get("/health").status_code == 200
    with away(deployment):
        health = client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "error")
        assert health.json()["database"]["connected"] is False
        for answer in (
            client.get(f"/credentials/{id}"),
            client.post("/issuers", ISSUER),
            client.get("/issuers"),
        ):
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "1"
        assert "error" in client.get("/", headers={"Accept": "text/html"}).text
    assert client.get(f"/credentials/{id}/verify").json()["isValid"]
    assert client.get("/health").status_code == 200
    assert client.post("/issuers", ISSUER).status_code == 201


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
def test_health_is_an_error_when_any_table_is_missing(sqlite: Deployment, table: sa.Table) -> None:
    with sqlite.database.engine.execution_options(writing=True).begin() as connection:
        connection.execute(sa.text(f"DROP TABLE {table.name}"))
    assert _health(sqlite).status_code == 503


def test_requests_are_a_503_where_the_tables_are_missing(client: Client, deployment: Deployment) -> None:
    with deployment.database.engine.execution_options(writing=True).begin() as connection:
        metadata.drop_all(connection)
    assert client.get("/issuers").status_code == 503
    assert client.get("/health").status_code == 503


def test_health_is_an_error_on_another_schema(sqlite: Deployment) -> None:
    with sqlite.database.engine.execution_options(writing=True).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'older'"))
    answer = _health(sqlite)
    assert answer.status_code == 503
    assert "older" in answer.json()["database"]["error"]


def test_health_is_degraded_without_a_proven_backup(sqlite: Deployment) -> None:
    answer = _health(sqlite)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["memory"]["rss"] > 1_000_000


def test_s2_health_is_degraded_where_the_newest_proven_backup_is_too_old(sqlite: Deployment) -> None:
    made = sqlite.made_backup()
    assert _health(sqlite).json()["status"] == "ok"
    sqlite.environment["BACKUP_MAX_AGE"] = "1s"
    until = datetime.fromisoformat(made["created_at"]) + timedelta(seconds=1)
    wait_until(lambda: utc_now() > until, "the second")
    answer = _health(sqlite)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["backup"]["ageSeconds"] >= 1


def test_health_is_degraded_with_the_reason_where_the_backup_folder_cannot_be_read(
    sqlite: Deployment,
) -> None:
    sqlite.environment["BACKUP_DIR"] = str(sqlite.folder / ("x" * 300))
    answer = _health(sqlite)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert "too long" in answer.json()["backup"]["problem"]


def test_health_tells_of_drills(stocked_sqlite: Deployment) -> None:
    assert _health(stocked_sqlite).json()["backup"]["lastDrill"] is None
    assert _health(stocked_sqlite).json()["backup"]["nextDrill"] is None
    stocked_sqlite.environment["DRILL_SCHEDULE"] = "0 4 * * 0"
    stocked_sqlite.made_backup()
    drill = stocked_sqlite.obms("drill", "--json").json
    told = _health(stocked_sqlite).json()["backup"]
    assert told["lastDrill"]["ok"] is True
    assert told["lastDrill"]["rtoSeconds"] == drill["rto_seconds"]
    assert told["nextDrill"].partition("T")[2].startswith("04:00")


def _health(deployment: Deployment) -> httpx.Response:
    from obms.web import create_app  # noqa: PLC0415 - only here

    return Client(app=create_app(deployment.application)).get("/health")


@pytest.mark.slow
def test_s5_sixteen_clients_at_once_on_a_fresh_server_make_one_key_of_each_kind_and_no_broken_badge(
    deployment: Deployment,
) -> None:
    with serving(deployment, workers=3) as address:
        with httpx.Client(base_url=address, headers={"X-API-Key": API_KEY}, timeout=60) as first:
            issuer = first.post("/issuers", json=ISSUER).json()["id"]
            achievement = {"name": "n", "description": "d", "criteria": {"narrative": "n"}, "issuer": issuer}
            badge = first.post("/achievements", json=achievement).json()["id"]
        # As on a restored server without keys and lists: all clients find none, and all make them.
        with deployment.database.engine.execution_options(writing=True).begin() as connection:
            connection.execute(sa.delete(status_lists))
            connection.execute(sa.delete(signing_keys))
        barrier = Barrier(CLIENTS, timeout=60)
        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(
                pool.map(lambda number: _issue_some(address, badge, barrier, number), range(CLIENTS))
            )
    assert {status for statuses in answers for status in statuses} == {201}
    _check_all(deployment, sum(map(len, answers)))


def _issue_some(address: str, badge: str, barrier: Barrier, number: int) -> list[int]:
    with httpx.Client(base_url=address, headers={"X-API-Key": API_KEY}, timeout=60) as client:
        barrier.wait()
        proofs = ("jwt", "data-integrity", "jwt") if number % 2 else ("data-integrity", "jwt", "jwt")
        return [client.post("/credentials", json=order(badge, proof=proof)).status_code for proof in proofs]


def _check_all(deployment: Deployment, expected: int) -> None:
    site = deployment.application.site
    with deployment.database.engine.connect() as connection:
        ids = connection.execute(sa.select(credentials.c.id)).scalars().all()
        verdicts = [verifying.verify(connection, site, id) for id in ids]
        assert len(ids) == expected
        assert all(verdict is not None and verdict.is_valid for verdict in verdicts)
        kinds = connection.execute(sa.select(signing_keys.c.algorithm)).scalars().all()
        assert sorted(kinds) == ["Ed25519", "RSA"]
        assert connection.execute(sa.select(sa.func.count()).select_from(status_lists)).scalar_one() == 2
        places = connection.execute(sa.select(status_entries.c.list_id, status_entries.c.position)).all()
        assert len(set(places)) == 2 * expected


def test_two_requests_for_a_stale_list_at_once_both_get_the_change(client: Client) -> None:
    id = client.issue()
    path = "/" + client.get("/status-lists").json()[0]["id"].split("/", 3)[3]
    client.post(f"/credentials/{id}/revoke")

    async def both() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=client.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test.invalid") as asking:
            return list(await asyncio.gather(*(asking.get(path) for _ in range(4))))

    answers = asyncio.run(both())
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
