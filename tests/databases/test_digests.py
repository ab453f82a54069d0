"""The canonical forms of values are those of PostgreSQL, so that digests of both kinds compare."""

import json
import math
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obms.databases import Database, digests, writing
from obms.databases.digests import canonical_json
from obms.migrations import newest
from tests.postgres import Server

# A jsonb holds no NUL and no half of a surrogate pair; PostgreSQL refuses the one, UTF-8 the other.
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
NUMBER = st.one_of(
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0]),
)
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBER, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def session(postgres: Server) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        yield connection


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(value=VALUE)
def test_json_is_spelled_as_postgresql_prints_a_jsonb(
    session: psycopg.Connection[Any], value: object
) -> None:
    text = json.dumps(value, ensure_ascii=False)
    row = session.execute("SELECT %s::text::jsonb::text", (text,)).fetchone()
    assert row is not None
    assert canonical_json(value) == row[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(field=st.text(st.sampled_from("\\\b\t\n\v\f\rbtnvfrNä"), max_size=9))
def test_a_field_is_spelled_as_copy_spells_it(session: psycopg.Connection[Any], field: str) -> None:
    with session.cursor() as cursor, cursor.copy("COPY (SELECT %s::text) TO STDOUT", (field,)) as lines:
        assert digests._escaped([field]) == b"".join(lines)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [math.nan], {"x": math.inf}])
def test_what_a_jsonb_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"bb": 1, "a": 2, "c": 3}, '{"a": 2, "c": 3, "bb": 1}'),
        ({"ä": 1, "zz": 2, "b": 3}, '{"b": 3, "zz": 2, "ä": 1}'),
        ([1.0, 1e-7, 1e22, -0.0], "[1.0, 0.0000001, 10000000000000000000000, 0.0]"),
        (("x", True, None), '["x", true, null]'),
        ('"\\\n\x1f', r'"\"\\\n\u001f"'),
    ],
)
def test_the_spelling_by_example(value: object, text: str) -> None:
    assert canonical_json(value) == text


def test_a_table_without_rows_has_a_digest(database: Database) -> None:
    assert set(database.facts().digests.values()) == {"0" * 32}


def test_two_equal_rows_are_not_none(database: Database) -> None:
    """A sum counts them; an exclusive or would not."""
    with writing(database.engine) as connection:
        connection.exec_driver_sql("CREATE TABLE twins (a text)")
        empty = digests.digest(connection, "twins")
        seen = {empty}
        for _ in range(3):
            connection.exec_driver_sql("INSERT INTO twins VALUES ('x')")
            seen.add(digests.digest(connection, "twins"))
    assert len(seen) == 4


def test_names_that_need_quotes_are_quoted(database: Database) -> None:
    name = 'a "b" c'
    table = sa.Table(
        name, sa.MetaData(), sa.Column('some "column"', sa.Text), sa.Column("Select", sa.Integer)
    )
    with writing(database.engine) as connection:
        table.create(connection)
        connection.execute(sa.insert(table), {'some "column"': "x", "Select": 1})
        assert name in digests.tables(connection)
        assert digests.count(connection, [name]) == {name: 1}
        assert digests.digest(connection, name) != "0" * 32


def test_without_alembic_there_is_no_revision(database: Database) -> None:
    with writing(database.engine) as connection:
        assert digests.revision(connection) == newest()
        connection.exec_driver_sql("DELETE FROM alembic_version")
        assert digests.revision(connection) is None
        connection.exec_driver_sql("DROP TABLE alembic_version")
        assert digests.revision(connection) is None
