"""R10, of people: a restore opens no door that was closed after the backup, though all else is lost."""

from dataclasses import dataclass
from typing import Any

from obms.web import create_app
from tests.backup.test_revocations_outlive import lose_database
from tests.deployment import API_KEY, Deployment
from tests.security.people import PASSWORD, Person, add_person
from tests.security.test_logins import NEW_PASSWORD, basic, bearer, log_in, profile
from tests.web.conftest import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """What was closed after the backup, and what must stay open."""

    issuer: str
    people: dict[str, Person]
    token: str


def close_doors(client: Client, deployment: Deployment) -> Closed:
    issuer = client.add_issuer().rpartition(":")[2]
    names = ("key", "closed", "deleted", "role", "admin", "changed", "open", "reopened")
    people = {
        name: add_person(
            deployment,
            name,
            {"role": "owner", "admin": "admin"}.get(name),
            issuer if name == "role" else None,
            password=PASSWORD if name == "changed" else None,
        )
        for name in names
    }
    deployment.made_backup()
    token = log_in(client, "changed").json()["token"]
    acts: list[tuple[str, str, Any]] = [
        ("DELETE", f"/users/{people['key'].id}/api-keys/{people['key'].key_id}", None),
        ("PATCH", f"/users/{people['closed'].id}", {"isActive": False}),
        ("DELETE", f"/users/{people['deleted'].id}", None),
        ("DELETE", f"/issuers/{issuer}/members/{people['role'].id}", None),
        ("PATCH", f"/users/{people['admin'].id}", {"admin": False}),
        ("POST", f"/users/{people['changed'].id}/password", {"newPassword": NEW_PASSWORD}),
        ("PATCH", f"/users/{people['reopened'].id}", {"isActive": False}),
        ("PATCH", f"/users/{people['reopened'].id}", {"isActive": True}),
    ]
    for method, path, body in acts:
        answer = client.ask(method, path, json=body)
        assert answer.status_code in (200, 204), answer.text
    return Closed(issuer=issuer, people=people, token=token)


def assert_closed(client: Client, closed: Closed) -> None:
    people = closed.people
    for name in ("key", "closed", "deleted"):
        assert profile(client, key=people[name].key).status_code == 401, name
    for name in ("role", "admin"):
        assert profile(client, key=people[name].key).json()["user"]["roles"] == [], name
    assert client.get(f"/issuers/{closed.issuer}/members").json() == []
    assert profile(client, key=people["open"].key).status_code == 200


def test_r10_what_was_closed_stays_closed_over_the_live_database(deployment: Deployment) -> None:
    # Twice: the second time what was carried over has to be carried over again.
    _restored(deployment, times=1 if deployment.postgres else 2, lost=False)


def test_r10_what_was_closed_stays_closed_from_the_journal_alone(sqlite: Deployment) -> None:
    _restored(sqlite, times=1, lost=True)


def _restored(deployment: Deployment, *, times: int, lost: bool) -> None:
    application = deployment.application
    client = Client(app=create_app(application))
    closed = close_doors(client, deployment)
    assert_closed(client, closed)
    application.database.engine.dispose()
    for _ in range(times):
        if lost:
            lose_database(deployment)
        answer = deployment.obms("restore", "latest" if lost else first_backup(deployment), "--yes", "--json")
        assert answer.code == 0, answer.err
        assert_closed(client, closed)
    assert profile(client, headers=bearer(closed.token)).status_code == (200 if lost else 401)
    right, wrong = (PASSWORD, NEW_PASSWORD) if lost else (NEW_PASSWORD, PASSWORD)
    assert profile(client, headers=basic("changed", right)).status_code == 200
    assert profile(client, headers=basic("changed", wrong)).status_code == 401
    reopened = profile(client, key=closed.people["reopened"].key)
    assert reopened.status_code == 200
    assert client.get("/users", key=API_KEY).status_code == 200
    application.database.engine.dispose()


def first_backup(deployment: Deployment) -> str:
    """The oldest: not the safety backup that a restore makes."""
    return str(deployment.obms("backup", "list", "--json").json[-1]["id"])
