"""Writers of a PostgreSQL database while it is replaced."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from obms.databases import Database
from tests.databases.conftest import count, no_carry, take
from tests.deployment import Deployment
from tests.postgres import Server
from tests.real_faults import wait_until

WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_database AS d ON d.oid = database
WHERE NOT granted AND mode = 'ExclusiveLock' AND datname = '{}'
"""


def test_r6_a_writer_that_takes_its_tables_in_another_order_does_not_end_a_restore(
    stocked_postgresql: Deployment, postgres: Server, tmp_path: Path
) -> None:
    """PostgreSQL ends one of two that wait for each other: the restore gives way, and tries again."""
    live: Database = stocked_postgresql.database
    take(live, tmp_path / "image")
    before = live.facts()
    waiting = WAITING.format(live.engine.url.database)

    def replace() -> str | None:
        with live.scratch() as copy:
            copy.load(tmp_path / "image")
            return live.replace(copy, no_carry)

    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(stocked_postgresql.environment["DATABASE_URL"]) as writer,
    ):
        writer.execute("DELETE FROM user_roles")
        replaced = pool.submit(replace)
        wait_until(lambda: postgres.psql(waiting) == "1", "a restore that waits for the writer")
        writer.execute("DELETE FROM api_keys")
        writer.commit()
        assert replaced.result() is None
    assert live.facts() == before
    assert count(live, "user_roles") == 17
