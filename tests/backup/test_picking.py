"""Single badges and issuers come back into the live database, and nothing that is newer gives way."""

from typing import Any

import pytest
import sqlalchemy as sa

from obms.badges import credentials as kept
from obms.badges import examining, keys, statuses
from obms.databases import writing
from obms.domain import REVOCATION
from obms.schema import (
    achievements,
    audit_events,
    credentials,
    endorsements,
    images,
    issuers,
    metadata,
    related_achievements,
    revocations,
    signing_keys,
    status_entries,
    status_lists,
)
from tests.backup.conftest import Backed, assert_nothing_is_left, execute
from tests.backup.test_revocations_outlive import asked, lose_database, revoke, valid_ids
from tests.deployment import Answer, Deployment

BESIDE = (related_achievements, endorsements)


def only(server: Deployment, *wanted: str, name: str = "latest") -> Any:
    answer = pick(server, *wanted, name=name)
    assert answer.code == 0, answer.err
    assert_nothing_is_left(server)
    assert_sound(server)
    return answer.json


def pick(
    server: Deployment, *wanted: str, name: str = "latest", more: tuple[str, ...] = ("--yes",)
) -> Answer:
    named = [part for each in wanted for part in ("--only", each)]
    return server.obms("restore", name, *named, "--json", *more)


def assert_sound(server: Deployment) -> None:
    with server.database.engine.connect() as connection:
        assert examining.disagreements(connection) == []
        assert examining.broken_references(connection) == []


def delete(server: Deployment, id: str) -> None:
    """As the API does it."""
    with asked(server) as client:
        assert client.ask("DELETE", f"/credentials/{id}").status_code == 204


def verdict(server: Deployment, id: str) -> Any:
    with asked(server) as client:
        return client.get(f"/credentials/{id}/verify").json()


def ids_of_issuer(server: Deployment, issuer: str) -> list[str]:
    query = sa.select(credentials.c.id).where(credentials.c.issuer_id == issuer).order_by(credentials.c.id)
    with server.database.engine.connect() as connection:
        return list(connection.execute(query).scalars())


def issuer_of_most(server: Deployment) -> str:
    query = (
        sa.select(credentials.c.issuer_id).group_by(credentials.c.issuer_id).order_by(sa.func.count().desc())
    )
    with server.database.engine.connect() as connection:
        return str(connection.execute(query).scalars().first())


def lose_issuer(server: Deployment, issuer: str) -> None:
    """By hand, every row of it: as a wrong DELETE does."""
    lists = sa.select(status_lists.c.id).where(status_lists.c.issuer_id == issuer)
    placed = sa.select(status_entries.c.credential_id).where(status_entries.c.list_id.in_(lists))
    own = sa.select(achievements.c.id).where(achievements.c.issuer_id == issuer)
    with writing(server.database.engine) as connection:
        for table, condition in (
            (credentials, credentials.c.issuer_id == issuer),
            (revocations, revocations.c.credential_id.in_(placed)),
            (status_entries, status_entries.c.list_id.in_(lists)),
            (status_lists, status_lists.c.issuer_id == issuer),
            (signing_keys, signing_keys.c.issuer_id == issuer),
            *((table, table.c.achievement_id.in_(own)) for table in BESIDE),
            (achievements, achievements.c.issuer_id == issuer),
            (metadata.tables["user_roles"], metadata.tables["user_roles"].c.issuer_id == issuer),
            (issuers, issuers.c.id == issuer),
        ):
            connection.execute(sa.delete(table).where(condition))


def rows(server: Deployment, table: sa.Table, *without: str) -> set[str]:
    """Each row spelled out, but for some columns."""
    columns = [column for column in table.c if column.name not in without]
    with server.database.engine.connect() as connection:
        return {repr(tuple(row)) for row in connection.execute(sa.select(*columns))}


def everything(server: Deployment) -> dict[str, str]:
    return dict(server.database.facts().digests)


def test_a_deleted_badge_comes_back_and_verifies(backed: Backed) -> None:
    server, made = backed
    (id,) = valid_ids(server, 1)
    before = everything(server)
    delete(server, id)
    assert not verdict(server, id)["isValid"]
    done = only(server, f"credential={id}")
    assert verdict(server, id)["isValid"]
    assert done["inserted"] == {"credentials": 1}
    assert (done["id"], done["dry_run"]) == (made["id"], False)
    after = everything(server)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"audit_events", "status_lists"}
    assert server.obms("backup", "run").code == 0


def test_an_issuer_comes_back_with_what_stood_beside_its_achievements(backed_sqlite: Backed) -> None:
    server, _ = backed_sqlite
    query = sa.select(achievements.c.issuer_id).join(endorsements)
    with server.database.engine.connect() as connection:
        issuer = str(connection.execute(query).scalars().one())
    before = [rows(server, table) for table in BESIDE]
    lose_issuer(server, issuer)
    assert [rows(server, table) for table in BESIDE] == [set(), set()]
    only(server, f"issuer={issuer}")
    assert [rows(server, table) for table in BESIDE] == before
    assert all(before)


def test_the_deed_is_written_down_and_a_safety_backup_goes_before_it(backed: Backed) -> None:
    server, made = backed
    (id,) = valid_ids(server, 1)
    delete(server, id)
    before = everything(server)
    done = only(server, f"credential={id}")
    with server.database.engine.connect() as connection:
        event = (
            connection.execute(sa.select(audit_events).order_by(audit_events.c.id.desc())).mappings().first()
        )
    assert event is not None
    assert (event["action"], event["subject"]) == ("credential.bring_back", id)
    assert event["detail"] == {"backup": made["id"]}
    answer = server.obms("restore", done["safety_backup"], "--yes")
    assert answer.code == 0, answer.err
    assert everything(server) == before


def test_a_dry_run_tells_the_same_and_touches_nothing(backed: Backed) -> None:
    server, _ = backed
    ids = valid_ids(server, 2)
    for id in ids:
        delete(server, id)
    before, files = everything(server), sorted(server.backup_dir.glob("*.gz"))
    answer = pick(server, *(f"credential={id}" for id in ids), more=("--dry-run",))
    assert answer.code == 0, answer.err
    assert (everything(server), sorted(server.backup_dir.glob("*.gz"))) == (before, files)
    done = only(server, *(f"credential={id}" for id in ids))
    figures = ("inserted", "equal", "kept", "overwritten", "wanted")
    assert [answer.json[name] for name in figures] == [done[name] for name in figures]
    assert done["inserted"] == {"credentials": 2}


def test_without_yes_it_is_refused(backed_sqlite: Backed) -> None:
    server, _ = backed_sqlite
    answer = pick(server, "credential=x", more=())
    assert answer.code == 8
    assert "--yes" in answer.err


def test_a_whole_issuer_comes_back_with_its_badges(backed: Backed) -> None:
    server, made = backed
    issuer = issuer_of_most(server)
    ids = ids_of_issuer(server, issuer)
    tables = [table for table in metadata.sorted_tables if table.name not in ("audit_events", "user_roles")]
    loose = ("document", "signed_at", "changed_at", "next_index")
    before = {table.name: rows(server, table, *loose) for table in tables}
    states = [verdict(server, id)["isRevoked"] for id in ids]
    lose_issuer(server, issuer)
    done = only(server, f"issuer={issuer}")
    assert {table.name: rows(server, table, *loose) for table in tables} == before
    assert done["inserted"]["credentials"] == len(ids)
    assert [verdict(server, id)["isRevoked"] for id in ids] == states
    assert any(verdict(server, id)["isValid"] for id in ids)
    assert server.obms("backup", "run").code == 0
    assert only(server, f"issuer={issuer}", name=made["id"])["inserted"] == {}


def test_a_list_that_comes_back_gives_no_place_again(backed: Backed) -> None:
    server, made = backed
    issuer = issuer_of_most(server)
    lists = sa.select(status_lists.c.id).where(status_lists.c.issuer_id == issuer)
    achievement = sa.select(achievements.c.id).where(achievements.c.issuer_id == issuer).limit(1)
    with server.database.engine.connect() as connection:
        old = set(connection.execute(lists).scalars())
        badge = str(connection.execute(achievement).scalar_one())
    lose_issuer(server, issuer)
    only(server, f"issuer={issuer}", name=made["id"])
    with asked(server) as client:
        id = client.issue(badge)
    query = sa.select(status_entries.c.list_id).where(status_entries.c.credential_id == id)
    with server.database.engine.connect() as connection:
        assert not set(connection.execute(query).scalars()) & old


def test_other_issuers_are_not_touched(backed: Backed) -> None:
    server, _ = backed
    issuer = issuer_of_most(server)
    lose_issuer(server, issuer)
    others = {
        table.name: rows(server, table) for table in metadata.sorted_tables if table.name != "audit_events"
    }
    only(server, f"issuer={issuer}")
    for table in metadata.sorted_tables:
        if table.name != "audit_events":
            assert others[table.name] <= rows(server, table)


def test_r10_a_badge_that_was_revoked_and_deleted_comes_back_revoked(backed: Backed) -> None:
    server, made = backed
    (id,) = valid_ids(server, 1)
    with asked(server) as client:
        assert client.post(f"/credentials/{id}/revoke", {"reason": "lost"}).status_code == 200
        assert client.ask("DELETE", f"/credentials/{id}").status_code == 204
    only(server, f"credential={id}", name=made["id"])
    assert verdict(server, id)["isRevoked"]


def test_r10_what_only_the_live_database_knows_stays_revoked(backed: Backed) -> None:
    """The API wrote no journal; one is suspended, one revoked, and both are deleted."""
    server, made = backed
    ids = valid_ids(server, 2)
    site = server.application.site
    with writing(server.database.engine) as connection:
        statuses.revoke(connection, site, ids[0], "lost")
        statuses.suspend(connection, site, ids[1], "asked")
        for id in ids:
            kept.delete(connection, site, id)
    only(server, *(f"credential={id}" for id in ids), name=made["id"])
    assert verdict(server, ids[0])["isRevoked"]
    assert verdict(server, ids[1])["isSuspended"]


def test_r10_what_only_the_journal_knows_stays_revoked(backed: Backed) -> None:
    server, made = backed
    issuer = issuer_of_most(server)
    id = next(id for id in ids_of_issuer(server, issuer) if id in valid_ids(server, 100))
    revoke(server, [id])
    with asked(server) as client:
        later = client.issue(_achievement(server, issuer))
        assert client.post(f"/credentials/{later}/revoke").status_code == 200
    lose_issuer(server, issuer)
    done = only(server, f"issuer={issuer}", name=made["id"])
    assert verdict(server, id)["isRevoked"]
    with server.database.engine.connect() as connection:
        status = statuses.read_status(connection, later)
    assert status is not None
    assert status.revoked
    assert done["inserted"]["revocations"] >= 2


def _achievement(server: Deployment, issuer: str) -> str:
    query = sa.select(achievements.c.id).where(achievements.c.issuer_id == issuer).limit(1)
    with server.database.engine.connect() as connection:
        return str(connection.execute(query).scalar_one())


def test_r10_a_revocation_that_the_backup_holds_and_the_database_lost_comes_back(backed: Backed) -> None:
    server, _ = backed
    (id,) = valid_ids(server, 1)
    revoke(server, [id])
    made = server.made_backup()
    execute(
        server,
        f"DELETE FROM revocations WHERE credential_id = '{id}'",
        f"UPDATE status_entries SET value = false WHERE credential_id = '{id}'",
    )
    assert not verdict(server, id)["isRevoked"]
    assert only(server, f"credential={id}", name=made["id"])["inserted"] == {"revocations": 1}
    assert verdict(server, id)["isRevoked"]


def test_a_suspension_that_was_lifted_stays_lifted(backed: Backed) -> None:
    server, _ = backed
    (id,) = valid_ids(server, 1)
    with asked(server) as client:
        assert client.post(f"/credentials/{id}/suspend", {"reason": "x"}).status_code == 200
    made = server.made_backup()
    with writing(server.database.engine) as connection:
        statuses.lift_suspension(connection, server.application.site, id)
    only(server, f"credential={id}", name=made["id"])
    assert verdict(server, id)["isValid"]


def test_a_newer_issuer_is_kept_and_told_where_only_its_badge_is_wanted(backed: Backed) -> None:
    server, _ = backed
    (id,) = valid_ids(server, 1)
    delete(server, id)
    execute(server, "UPDATE issuers SET name = 'Newer'")
    done = only(server, f"credential={id}")
    assert done["kept"] == {"issuers": 1}
    assert "name" in done["notes"][0]
    assert _names(server) == {"Newer"}


def _names(server: Deployment) -> set[str]:
    with server.database.engine.connect() as connection:
        return set(connection.execute(sa.select(issuers.c.name)).scalars())


def test_what_was_asked_for_and_is_newer_is_refused_unless_it_is_to_be_overwritten(backed: Backed) -> None:
    server, _ = backed
    issuer = issuer_of_most(server)
    execute(server, f"UPDATE issuers SET name = 'Newer' WHERE id = '{issuer}'")
    before, files = everything(server), sorted(server.backup_dir.glob("*.gz"))
    answer = pick(server, f"issuer={issuer}")
    assert answer.code == 8
    assert f"issuers {issuer}: name" in answer.err
    assert (everything(server), sorted(server.backup_dir.glob("*.gz"))) == (before, files)
    done = pick(server, f"issuer={issuer}", more=("--yes", "--overwrite")).json
    assert done["overwritten"] == {"issuers": 1}
    assert "Newer" not in _names(server)
    assert_sound(server)


def test_a_badge_whose_place_is_taken_does_not_come_back(backed: Backed) -> None:
    server, _ = backed
    id, other = valid_ids(server, 2)
    place = sa.select(status_entries.c.list_id, status_entries.c.position).where(
        status_entries.c.credential_id == id, status_entries.c.purpose == REVOCATION
    )
    with server.database.engine.connect() as connection:
        list_id, position = connection.execute(place).one()
    execute(
        server,
        f"DELETE FROM credentials WHERE id = '{id}'",
        f"DELETE FROM status_entries WHERE credential_id = '{id}'",
    )
    execute(
        server,
        f"UPDATE status_entries SET list_id = '{list_id}', position = {position}"
        f" WHERE credential_id = '{other}' AND purpose = 'revocation'",
    )
    before = everything(server)
    answer = pick(server, f"credential={id}", more=("--yes", "--overwrite"))
    assert answer.code == 8
    assert f"{other} stands in its place" in answer.err
    assert everything(server) == before


def test_a_key_that_was_replaced_comes_back_as_retired(backed: Backed) -> None:
    server, _ = backed
    (id,) = valid_ids(server, 1)
    with writing(server.database.engine) as connection:
        held = kept.find(connection, id)
        kept.delete(connection, server.application.site, id)
        mine = credentials.c.key_id == held.key_id
        connection.execute(sa.delete(credentials).where(mine))
        connection.execute(sa.delete(signing_keys).where(signing_keys.c.id == held.key_id))
        fresh = keys.active_key(connection, server.application.site, held.issuer_id)
    done = pick(server, f"credential={id}").json
    assert done["inserted"] == {"credentials": 1, "signing_keys": 1}
    with server.database.engine.connect() as connection:
        now = {key.id: key.retired_at is None for key in keys.keys_of(connection, held.issuer_id)}
    assert (now[fresh.id], now[held.key_id]) == (True, False)
    assert verdict(server, id)["isValid"]


@pytest.mark.parametrize(
    ("wanted", "code"), [("credential=none", 2), ("issuer=none", 2), ("badge=1", 2), ("issuer=", 2)]
)
def test_what_is_not_there_is_told(backed_sqlite: Backed, wanted: str, code: int) -> None:
    server, _ = backed_sqlite
    before, files = everything(server), sorted(server.backup_dir.glob("*.gz"))
    assert pick(server, wanted).code == code
    assert (everything(server), sorted(server.backup_dir.glob("*.gz"))) == (before, files)


def test_one_that_fails_leaves_none(backed: Backed) -> None:
    server, _ = backed
    (id,) = valid_ids(server, 1)
    delete(server, id)
    before = everything(server)
    assert pick(server, f"credential={id}", "credential=none").code == 2
    assert everything(server) == before


def test_a_badge_comes_back_across_the_kinds(stocked_sqlite: Deployment, postgresql: Deployment) -> None:
    made = stocked_sqlite.made_backup()
    path = str(stocked_sqlite.backup_dir / made["file"])
    assert postgresql.obms("restore", path, "--yes").code == 0
    (id,) = valid_ids(postgresql, 1)
    delete(postgresql, id)
    assert only(postgresql, f"credential={id}", name=path)["inserted"] == {"credentials": 1}
    assert verdict(postgresql, id)["isValid"]


def test_a_lost_picture_comes_back_with_what_shows_it(backed: Backed) -> None:
    server, _ = backed
    (id,) = valid_ids(server, 1)
    delete(server, id)
    execute(server, "DELETE FROM images")
    done = only(server, f"credential={id}")
    assert done["inserted"]["images"] >= 1
    with asked(server) as client:
        assert all(client.get(f"/assets/{name}").status_code == 200 for name in _pictures(server))


def _pictures(server: Deployment) -> set[str]:
    with server.database.engine.connect() as connection:
        return set(connection.execute(sa.select(images.c.name)).scalars())


def test_without_a_live_database_there_is_nothing_to_bring_rows_into(backed: Backed) -> None:
    server, _ = backed
    lose_database(server)
    answer = pick(server, "credential=x")
    assert answer.code == 3
    assert "obms restore latest --yes" in answer.err


def test_a_live_database_of_another_schema_has_to_be_migrated_first(backed: Backed) -> None:
    server, _ = backed
    execute(server, "UPDATE alembic_version SET version_num = '0001'")
    answer = pick(server, "credential=x")
    assert answer.code == 3
    assert "obms migrate" in answer.err


def test_only_goes_with_a_backup_and_overwriting_with_only(sqlite: Deployment) -> None:
    assert sqlite.obms("restore", "--undo", "--only", "issuer=x", "--yes").code == 2
    assert sqlite.obms("restore", "latest", "--overwrite", "--yes").code == 2
