"""R7: every row goes from SQLite to PostgreSQL and back, and is the same."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obms.databases import writing
from obms.databases.copy_blocks import BLOCK_END
from obms.databases.postgresql import Postgresql
from obms.databases.postgresql_filling import _not_held, _tables, fill_postgresql
from obms.databases.sqlite import PAGE_SIZE, Sqlite
from obms.databases.sqlite_filling import fill_sqlite
from obms.databases.sqlite_snapshot import connect
from obms.errors import BackupDamaged, DatabaseUnreachable, Refused, StorageFailed
from obms.schema import metadata
from tests.databases.conftest import MOMENT, take
from tests.databases.test_digests import TEXT, VALUE
from tests.deployment import Deployment
from tests.real_faults import fill_disk, small_disk

SPECIAL = st.sampled_from(
    ["", "\\", "\\N", "\\.", "\t", "\n", "\r\n", "\\x41", "a\\tb", "e\u0301", "🏅", "\ufeff", "~"]
)
ANY_TEXT = st.one_of(TEXT, SPECIAL, st.lists(SPECIAL, max_size=4).map("".join))
JSON = st.one_of(
    st.none(), st.lists(VALUE, max_size=3), st.dictionaries(TEXT, VALUE, max_size=3), st.just("\\N\t")
)
TIME = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999), timezones=st.just(UTC))  # noqa: DTZ001
ISSUER = st.fixed_dictionaries(
    {
        "name": ANY_TEXT,
        "url": ANY_TEXT,
        "email": st.one_of(st.none(), ANY_TEXT),
        "image": JSON,
        "extra": JSON,
        "created_at": TIME,
        "updated_at": TIME,
    }
)
IMAGE = st.fixed_dictionaries(
    {"media_type": ANY_TEXT, "content": st.one_of(st.binary(), st.just(b"\\x41")), "created_at": TIME}
)
EVENT = st.fixed_dictionaries(
    {"id": st.integers(-(2**63), 2**63 - 2), "actor": ANY_TEXT, "action": ANY_TEXT, "subject": ANY_TEXT}
    | {"at": TIME, "detail": JSON}
)
Row = dict[str, Any]


class Road:
    """A SQLite with rows, and empty tables on both kinds to bring them to."""

    def __init__(self, sqlite: Deployment, postgresql: Deployment) -> None:
        assert isinstance(sqlite.database, Sqlite)
        assert isinstance(postgresql.database, Postgresql)
        self.first, self.second, self.folder = sqlite.database, postgresql.database, sqlite.folder
        self.empty = self.folder / "empty.db"
        shutil.copy(self.first.path, self.empty)

    def clear(self) -> None:
        for database in (self.first, self.second):
            with writing(database.engine) as connection:
                for table in reversed(metadata.sorted_tables):
                    connection.execute(sa.delete(table))

    def back(self) -> Sqlite:
        """The rows of the first, by way of PostgreSQL in another SQLite."""
        fill_postgresql(self.second, self.first, name="first")
        return self.to_sqlite()

    def to_sqlite(self) -> Sqlite:
        take(self.second, self.folder / "dump.sql")
        return self.filled(self.folder / "dump.sql")

    def by_hand(self) -> Sqlite:
        """The same by the guide's own command, which prints values as the server is set."""
        tools, _ = self.second.check_tools()
        command = (*tools.command("pg_dump", self.second.name), f"--file={self.folder / 'dump.sql'}")
        subprocess.run(command, check=True, env=self.second._environment())
        return self.filled(self.folder / "dump.sql")

    def filled(self, dump: Path) -> Sqlite:
        path = self.folder / f"{uuid4().hex}.db"
        shutil.copy(self.empty, path)
        third = Sqlite(path, work=self.folder)
        fill_sqlite(third, dump, name="dump")
        return third


@pytest.fixture
def road(sqlite: Deployment, postgresql: Deployment) -> Iterator[Road]:
    found = Road(sqlite, postgresql)
    found.clear()
    yield found
    found.clear()


def contents(database: Sqlite) -> dict[str, list[Any]]:
    """Every value as SQLite itself keeps it, with its type."""
    with database.engine.connect() as connection:
        return {
            table.name: sorted(
                connection.exec_driver_sql(
                    "SELECT "
                    + ", ".join(f"typeof({column.name}), {column.name}" for column in table.columns)
                    + f" FROM {table.name}"
                ).all(),
                key=repr,
            )
            for table in metadata.sorted_tables
        }


def put(database: Sqlite, **rows: list[Row]) -> None:
    with writing(database.engine) as connection:
        for name, found in rows.items():
            if found:
                connection.execute(sa.insert(metadata.tables[name]), found)


def assert_same(road: Road, back: Sqlite) -> None:
    first = road.first.facts()
    assert road.second.facts().digests == first.digests
    assert back.facts() == first
    assert contents(back) == contents(road.first)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
@given(
    found_issuers=st.lists(ISSUER, max_size=4),
    found_images=st.lists(IMAGE, max_size=3),
    events=st.lists(EVENT, max_size=4, unique_by=lambda row: row["id"]),
    bits=st.lists(st.booleans(), max_size=4),
)
def test_r7_there_and_back_every_row_is_the_same(
    road: Road, found_issuers: list[Row], found_images: list[Row], events: list[Row], bits: list[bool]
) -> None:
    road.clear()
    status_list = {"id": "l", "issuer_id": "0", "purpose": "revocation", "size": 131072, "next_index": 4}
    entries = [
        {
            "credential_id": f"c{place}",
            "purpose": "revocation",
            "list_id": "l",
            "position": place,
            "value": bit,
        }
        for place, bit in enumerate(bits)
    ]
    put(
        road.first,
        issuers=[row | {"id": str(number)} for number, row in enumerate(found_issuers)],
        images=[row | {"id": f"{number}", "name": f"{number}"} for number, row in enumerate(found_images)],
        audit_events=events,
        status_lists=[status_list | {"changed_at": MOMENT}] if found_issuers else [],
        status_entries=entries if found_issuers else [],
    )
    assert_same(road, road.back())


def test_r7_a_whole_server_goes_there_and_back(road: Road, sqlite: Deployment) -> None:
    sqlite.seed(60)
    back = road.back()
    assert_same(road, back)
    assert back.facts().rows["credentials"] == 60


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu", "Europe/Amsterdam"])
def test_r7_times_do_not_shift_with_the_zone_of_the_server(road: Road, zone: str) -> None:
    """Of the years before 1900 offsets have seconds too."""
    times = [
        "0001-01-02",
        "1850-06-01T12:00:00.120",
        "1937-01-01",
        "2026-07-01T01:02:03.000004",
        "9999-12-30",
    ]
    rows = [
        {"id": number, "at": datetime.fromisoformat(time).replace(tzinfo=UTC)}
        | {"actor": "", "action": "", "subject": ""}
        for number, time in enumerate(times, 1)
    ]
    put(road.first, audit_events=rows)
    fill_postgresql(road.second, road.first, name="first")
    with writing(road.second.engine) as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {road.second.name} SET timezone TO '{zone}'")
    assert_same(road, road.to_sqlite())
    assert_same(road, road.by_hand())


def test_r7_bytes_in_the_older_form_of_the_server_are_read(road: Road) -> None:
    row = {"id": "x", "name": "x", "media_type": "x", "created_at": MOMENT}
    put(road.first, images=[row | {"content": b"\\x41" + bytes(range(256))}])
    fill_postgresql(road.second, road.first, name="first")
    with writing(road.second.engine) as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {road.second.name} SET bytea_output TO 'escape'")
    assert_same(road, road.to_sqlite())
    assert_same(road, road.by_hand())


def test_r7_the_tables_have_all_their_keys_and_indexes_again(road: Road, sqlite: Deployment) -> None:
    def shape(engine: sa.Engine) -> dict[str, Any]:
        with engine.connect() as connection:
            found = sa.inspect(connection)
            return {
                table.name: (
                    found.get_pk_constraint(table.name),
                    sorted(map(repr, found.get_foreign_keys(table.name))),
                    sorted(map(repr, found.get_unique_constraints(table.name))),
                    [
                        (
                            index["name"],
                            index["column_names"],
                            index["unique"],
                            *map(str, index["dialect_options"].values()),
                        )
                        for index in found.get_indexes(table.name)
                    ],
                    sorted(map(repr, found.get_check_constraints(table.name))),
                )
                for table in metadata.sorted_tables
            }

    sqlite.seed()
    before = shape(road.first.engine), shape(road.second.engine)
    back = road.back()
    for made, wanted in zip((shape(back.engine), shape(road.second.engine)), before, strict=True):
        for table, parts in wanted.items():
            assert made[table] == parts
    assert back.problems() == road.second.problems() == ()


def dump_of(road: Road) -> bytes:
    take(road.second, road.folder / "dump.sql")
    return (road.folder / "dump.sql").read_bytes()


@pytest.mark.parametrize(
    ("place", "instead", "said"),
    [
        (b"image/png", b"image/\xff\xfe", "not UTF-8"),
        (b"only\t", b"twice\t", "UNIQUE"),
    ],
    ids=["other bytes", "a key twice"],
)
def test_a_dump_that_is_no_longer_what_it_was_is_damaged(
    road: Road, place: bytes, instead: bytes, said: str
) -> None:
    row = {"media_type": "image/png", "content": b"", "created_at": MOMENT}
    put(road.first, images=[row | {"id": id, "name": id} for id in ("only", "twice")])
    fill_postgresql(road.second, road.first, name="first")
    dump = dump_of(road)
    assert place in dump
    (road.folder / "other.sql").write_bytes(dump.replace(place, instead))
    with pytest.raises(BackupDamaged, match=said):
        road.filled(road.folder / "other.sql")


def test_a_dump_that_ends_within_the_rows_of_its_last_table_is_damaged(road: Road) -> None:
    rows, _, rest = dump_of(road).rpartition(BLOCK_END)
    (road.folder / "other.sql").write_bytes(rows + rest)
    with pytest.raises(BackupDamaged, match="ends within the rows"):
        road.filled(road.folder / "other.sql")


def test_a_full_disk_is_not_taken_for_a_damaged_dump(road: Road, tmp_path: Path) -> None:
    row = {"id": "x", "name": "x", "media_type": "x", "content": bytes(3_000_000), "created_at": MOMENT}
    put(road.first, images=[row])
    fill_postgresql(road.second, road.first, name="first")
    dump_of(road)
    with small_disk(tmp_path / "disk", 3000) as mounted:
        if not mounted:
            pytest.skip("this user may mount no disk")
        shutil.copy(road.empty, tmp_path / "disk" / "third.db")
        fill_disk(tmp_path / "disk", leave=500_000)
        third = Sqlite(tmp_path / "disk" / "third.db", work=tmp_path)
        with pytest.raises(StorageFailed, match="full"):
            fill_sqlite(third, road.folder / "dump.sql", name="dump")


def test_a_database_whose_rows_contradict_each_other_is_damaged(road: Road, sqlite: Deployment) -> None:
    sqlite.seed()
    with closing(connect(road.first.path)) as connection:
        connection.execute("DELETE FROM issuers")
    with pytest.raises(BackupDamaged, match="foreign key"):
        fill_postgresql(road.second, road.first, name="first")
    assert not sum(road.second.facts().rows.values())


def test_a_database_that_sqlite_cannot_read_is_damaged(road: Road, sqlite: Deployment) -> None:
    sqlite.seed()
    with closing(connect(road.first.path)) as connection:
        root = "SELECT rootpage FROM sqlite_master WHERE name = 'credentials'"
        page = connection.execute(root).fetchone()[0]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(road.first.path.read_bytes())
    content[(page - 1) * PAGE_SIZE : page * PAGE_SIZE] = bytes(PAGE_SIZE)
    (road.folder / "damaged.db").write_bytes(content)
    with pytest.raises(BackupDamaged, match="SQLite says"):
        fill_postgresql(road.second, Sqlite(road.folder / "damaged.db", work=road.folder), name="damaged")


def test_a_server_that_ends_the_filling_says_nothing_of_the_rows(road: Road) -> None:
    with writing(road.second.engine) as connection:
        connection.exec_driver_sql(
            f"ALTER DATABASE {road.second.name} SET default_transaction_read_only = on"
        )
    try:
        with pytest.raises(DatabaseUnreachable, match="read-only"):
            fill_postgresql(road.second, road.first, name="first")
    finally:
        with road.second.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as server:
            server.exec_driver_sql("SET default_transaction_read_only = off")
            server.exec_driver_sql(f"ALTER DATABASE {road.second.name} RESET default_transaction_read_only")


def test_a_server_that_does_not_say_which_row_in_english_is_repeated(road: Road) -> None:
    with road.second.engine.connect() as connection, closing(connect(road.first.path)) as reader:
        rows = next(rows for rows in _tables(connection) if rows.table == "images")
        told = _not_held(reader, rows, psycopg.DataError("ungültige Eingabe"), "first")
    assert isinstance(told, Refused)
    assert "first: images: ungültige Eingabe" in str(told)
