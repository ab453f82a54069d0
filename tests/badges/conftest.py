"""A site with a clock that can be set, and badges to begin with."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from obms.badges import Seal, Site, issuing, profiles
from obms.databases import Database
from obms.domain import Achievement, Criteria, Evidence, Image, Issuer, JoseName, ProofKind, Recipient

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass(slots=True)
class Clock:
    """A clock that stands until it is moved."""

    now: datetime = field(default=NOW)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> None:
        self.now += timedelta(**span)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def site(clock: Clock) -> Site:
    return Site(base_url="https://badges.example.org", seal=Seal("secret"), clock=clock)


@pytest.fixture
def engine(database: Database) -> sa.Engine:
    return database.engine.execution_options(writing=True)


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction, on each kind of database."""
    with engine.begin() as connection:
        yield connection


def add_profiles(connection: sa.Connection, site: Site, number: int = 1) -> tuple[Issuer, Achievement]:
    """An issuer with one achievement."""
    issuer = profiles.add_issuer(
        connection,
        site,
        Issuer(
            id=f"00000000-0000-4000-8000-00000000000{number}",
            name="Höhere Schule",
            url="https://school.example.org/",
            email="badges@school.example.org",
            image=Image(url="https://school.example.org/logo.png", caption="Logo"),
            created_at=NOW,
            updated_at=NOW,
        ),
    )
    achievement = profiles.add_achievement(
        connection,
        site,
        Achievement(
            id=f"00000000-0000-4000-8000-00000000010{number}",
            issuer_id=issuer.id,
            name="データ分析",
            description="表計算と統計 📊",
            criteria=Criteria(url="https://school.example.org/criteria", narrative="Bestehen"),
            tags=("a", "é"),
            created_at=NOW,
            updated_at=NOW,
        ),
    )
    return issuer, achievement


def order_for(
    achievement: Achievement,
    *,
    proof: ProofKind = "jwt",
    alg: JoseName | None = None,
    expires_at: datetime | None = None,
) -> issuing.Order:
    return issuing.Order(
        achievement_id=achievement.id,
        recipient=Recipient(type="email", identity="zoë@example.org", hashed=True),
        issued_at=NOW,
        expires_at=expires_at,
        evidence=(Evidence(url="https://work.example.org/1", narrative="ليل"), Evidence(narrative="zweites")),
        narrative="Gut gemacht 🏅",
        proof=proof,
        alg=alg,
    )


def issue(
    connection: sa.Connection,
    site: Site,
    achievement: Achievement,
    proof: ProofKind = "jwt",
    expires_at: datetime | None = None,
) -> str:
    """The id of a new credential."""
    return issuing.issue(connection, site, order_for(achievement, proof=proof, expires_at=expires_at))
