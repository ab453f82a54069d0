"""Someone for each part: a stranger, users with each role, keys that have ended."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from obms.badges import Site, api_keys, people
from obms.badges.passwords import hash_password
from obms.databases import writing
from obms.schema import api_keys as key_table
from tests.deployment import Deployment

PASSWORD = "correct horse battery staple"
PAST = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A user, and an API key of theirs."""

    id: str
    name: str
    key: str
    key_id: str


def add_person(
    deployment: Deployment,
    name: str,
    role: str | None = None,
    issuer_id: str | None = None,
    *,
    password: str | None = None,
) -> Person:
    site = deployment.application.site
    with writing(deployment.database.engine) as connection:
        password_hash = hash_password(password) if password else None
        id = people.add_user(
            connection, site, username=name, email=f"{name}@example.org", password_hash=password_hash
        )
        if role:
            people.give_role(connection, id, role, issuer_id)
        key_id, key = api_keys.make_key(connection, site, id, "test")
    return Person(id=id, name=name, key=key, key_id=key_id)


def expired_key(deployment: Deployment, person: Person) -> str:
    """A key of theirs whose time is over."""
    site: Site = deployment.application.site
    with writing(deployment.database.engine) as connection:
        _, key = api_keys.make_key(connection, site, person.id, "over", PAST + timedelta(days=1))
    return key


def revoked_key(deployment: Deployment, person: Person) -> str:
    site: Site = deployment.application.site
    with writing(deployment.database.engine) as connection:
        id, key = api_keys.make_key(connection, site, person.id, "revoked")
        connection.execute(sa.update(key_table).where(key_table.c.id == id).values(revoked_at=PAST))
    return key
