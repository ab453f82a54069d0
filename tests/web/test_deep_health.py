"""`/health/deep`: for admins, in bounded time, and 503 for a database that is damaged."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from obms.badges import api_keys
from obms.databases import writing
from obms.databases.quick_check import quick_check
from obms.databases.sqlite_snapshot import beside
from obms.observe import utc_now
from obms.schema import audit_events, users
from obms.web import create_app
from tests.deployment import Deployment
from tests.web.conftest import Client

PATH = "/health/deep"


def lights(found: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["light"] for check in found["checks"]}


def test_an_admin_is_told_how_everything_stands(client: Client, deployment: Deployment) -> None:
    assert client.get(PATH, key=None).status_code == 401
    answer = client.get(PATH)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert lights(answer.json())["newest proven backup"] == "red"
    deployment.made_backup()
    found = client.get(PATH).json()
    assert found["status"] == "ok"
    assert found["database"]["connected"]
    seen = lights(found)
    assert {name for name, light in seen.items() if light == "green"} == {
        *("integrity", "newest proven backup", "last run", "journal", "disk", "clock")
    }
    assert {name for name, light in seen.items() if light == "yellow"} == {"stores", "last drill"}
    assert all(check["mend"] for check in found["checks"] if check["light"] != "green")


def test_the_key_of_one_who_is_no_admin_does_not_do(client: Client, deployment: Deployment) -> None:
    with writing(deployment.database.engine) as connection:
        user = {"id": "1", "username": "one", "email": "one@example.org", "created_at": utc_now()}
        connection.execute(sa.insert(users).values(user))
        _, key = api_keys.make_key(connection, deployment.application.site, "1", "of a user")
    assert client.get(PATH, key=key).status_code == 403


def asked(server: Deployment) -> httpx.Response:
    application = server.application
    try:
        return Client(app=create_app(application)).get(PATH)
    finally:
        application.database.engine.dispose()


def test_a_damaged_page_is_an_error(sqlite: Deployment) -> None:
    with sqlite.database.engine.connect() as connection:
        size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
        root = connection.exec_driver_sql("SELECT rootpage FROM sqlite_master WHERE name = 'audit_events'")
        place = (root.scalar_one() - 1) * size
    sqlite.database.engine.dispose()
    with sqlite.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    with sqlite.settings.sqlite_file.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 64)
    answer = asked(sqlite)
    assert (answer.status_code, answer.json()["status"]) == (503, "error")
    assert lights(answer.json())["integrity"] == "red"


def lose(file: Path) -> None:
    file.unlink()


def overwrite(file: Path) -> None:
    file.write_bytes(b"no database any more" * 1000)


@pytest.mark.parametrize("damage", [lose, overwrite])
def test_s3_it_tells_an_admin_of_the_environment_of_a_database_that_is_lost(
    sqlite: Deployment, damage: Callable[[Path], None]
) -> None:
    application = sqlite.application
    for engine in (sqlite.database.engine, application.database.engine):
        engine.dispose()
    for end in ("-wal", "-shm"):
        beside(sqlite.settings.sqlite_file, end).unlink(missing_ok=True)
    damage(sqlite.settings.sqlite_file)
    client = Client(app=create_app(application))
    answer = client.get(PATH)
    assert (answer.status_code, answer.json()["status"]) == (503, "error")
    assert lights(answer.json())["integrity"] == "red"
    assert not answer.json()["database"]["connected"]
    refused = client.get(PATH, key="another key")
    assert (refused.status_code, "checks" in refused.json()) == (503, False)
    assert client.get("/issuers").status_code == 503
    application.database.engine.dispose()


def test_an_index_that_is_not_fit_is_an_error(postgresql: Deployment) -> None:
    with postgresql.database.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'pk_audit_events'::regclass"
        )
    answer = asked(postgresql)
    assert (answer.status_code, answer.json()["status"]) == (503, "error")
    assert "pk_audit_events" in str(answer.json()["checks"])


def test_it_takes_no_longer_than_it_may(sqlite: Deployment) -> None:
    """2,000 rows take longer than no time at all; nothing found so far is no problem."""
    event = {"at": utc_now(), "actor": "a", "action": "b", "subject": "c"}
    with writing(sqlite.database.engine) as connection:
        connection.execute(sa.insert(audit_events), [event] * 2000)
    with sqlite.database.engine.connect() as connection:
        found = quick_check(connection, timedelta(seconds=-1))
        assert (found.problems, "not to the end" in found.detail) == ((), True)
        assert quick_check(connection, timedelta(seconds=60)).detail == "every page is whole"
