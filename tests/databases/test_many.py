"""Many rows at once: what is read back is what was written, on each kind of database."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa

from obms.databases import Database, writing
from obms.databases.many import insert_all, insert_many
from obms.schema import audit_events, issuers

TIME = datetime(2026, 6, 1, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=2)))


def event_row(number: int) -> dict[str, Any]:
    detail = {"text": "Höhere 'Schule' \\ \"x\" 📊\n", "none": None, "list": [1, 1.5, True, {}]}
    return {
        "at": TIME,
        "actor": f"somebody {number}",
        "action": ":actor",
        "subject": "",
        "detail": detail if number else None,
    }


def issuer_row(id: str) -> dict[str, Any]:
    texts = dict.fromkeys(("id", "name", "url"), id)
    return {**texts, "extra": {"a": id}, "created_at": TIME, "updated_at": TIME, "deleted_at": None}


def test_rows_are_read_back_as_they_were_written(database: Database) -> None:
    events, makers = [event_row(number) for number in range(3)], [issuer_row("1"), issuer_row("2")]
    with writing(database.engine) as connection:
        insert_all(connection, {audit_events: events, issuers: makers})
        insert_many(connection, audit_events, [event_row(3)])
        insert_many(connection, audit_events, [])
    with database.engine.connect() as connection:
        found = connection.execute(sa.select(audit_events).order_by(audit_events.c.id)).mappings().all()
        ids = connection.execute(sa.select(issuers.c.id).order_by(issuers.c.id)).scalars().all()
        nothing = sa.select(sa.func.count()).where(audit_events.c.detail.is_(None))
        assert connection.execute(nothing).scalar_one() == 1
    assert [{**row} for row in found] == [{**event_row(number), "id": number + 1} for number in range(4)]
    assert found[0]["at"].tzinfo == UTC
    assert ids == ["1", "2"]


def test_a_time_without_its_zone_is_refused(database: Database) -> None:
    naive = {**event_row(1), "at": TIME.replace(tzinfo=None)}
    with (
        writing(database.engine) as connection,
        pytest.raises((ValueError, sa.exc.StatementError), match="its zone"),
    ):
        insert_many(connection, audit_events, [naive])
