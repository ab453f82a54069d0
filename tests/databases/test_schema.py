"""The sum of the migrations is the schema, on both databases."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from obms import migrations, schema
from obms.databases import Database, writing
from obms.errors import SchemaTooNew


def upgrade(database: Database, revision: str) -> None:
    """Bring a database to this revision and no further."""
    with writing(database.engine) as connection:
        config = migrations._config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


@pytest.fixture
def empty(database: Database) -> Iterator[Database]:
    """A database without any table."""
    with database.scratch() as scratch:
        scratch.create()
        yield scratch


def differences(database: Database) -> list[Any]:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, schema.metadata))


def checks(connection: sa.Connection) -> dict[str, set[str]]:
    """The names of the check constraints and of the foreign keys, which Alembic does not compare."""
    inspector = sa.inspect(connection)
    return {
        name: {
            str(found["name"])
            for found in (*inspector.get_check_constraints(name), *inspector.get_foreign_keys(name))
        }
        for name in inspector.get_table_names()
        if name in schema.metadata.tables
    }


def test_the_sum_of_the_migrations_is_the_schema(database: Database) -> None:
    assert differences(database) == []


def test_the_revisions_are_those_that_alembic_knows_in_its_order() -> None:
    known = ScriptDirectory.from_config(migrations._config()).walk_revisions()
    assert list(migrations.REVISIONS) == [script.revision for script in known][::-1]


def test_the_migrations_make_each_constraint_of_the_schema(database: Database, empty: Database) -> None:
    with writing(empty.engine) as connection:
        schema.metadata.create_all(connection)
        wanted = checks(connection)
    with database.engine.connect() as connection:
        assert checks(connection) == wanted
    assert len(wanted) == 14
    assert sum(len(names) for names in wanted.values()) > 10


def test_a_difference_would_be_seen(database: Database) -> None:
    with writing(database.engine) as connection:
        connection.exec_driver_sql("ALTER TABLE issuers ADD COLUMN extra_column text")
    (found,) = differences(database)
    assert found[0] == "remove_column"


def test_an_empty_database_is_brought_to_the_newest_revision(empty: Database) -> None:
    assert migrations.migrate(empty.engine) is None
    assert empty.facts().revision == migrations.newest()
    assert differences(empty) == []


def test_an_older_database_keeps_its_rows(empty: Database) -> None:
    upgrade(empty, "0001")
    assert "audit_events" not in empty.facts().rows
    with writing(empty.engine) as connection:
        connection.exec_driver_sql(
            "INSERT INTO users (id, username, email, created_at) VALUES ('u', 'u', 'u', '2026-01-01')"
        )
        connection.exec_driver_sql("INSERT INTO user_roles (id, user_id, role) VALUES ('r', 'u', 'admin')")
    before = empty.facts().digests["user_roles"]
    assert migrations.migrate(empty.engine) == "0001"
    after = empty.facts()
    assert (after.revision, after.rows["audit_events"]) == (migrations.newest(), 0)
    assert (after.digests["user_roles"], after.rows["users"]) == (before, 1)


def test_migrating_twice_is_migrating_once(database: Database) -> None:
    before = database.facts()
    assert migrations.migrate(database.engine) == migrations.newest()
    assert database.facts() == before


def test_a_newer_schema_is_left_alone(database: Database) -> None:
    with writing(database.engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew) as caught:
        migrations.migrate(database.engine, name="x", version="7.1.0")
    assert "9999" in str(caught.value)
    assert "7.1.0" in caught.value.hint
    assert database.facts(digests=False).revision == "9999"
