"""Measure a move from SQLite to PostgreSQL, and compare what is there afterwards.

`python -m benchmarks.moving --credentials 100000`
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.bench import MEBIBYTE, watch
from benchmarks.deployment import PROGRAM, on_postgresql, on_sqlite, tuned_server
from obms.databases import Facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--credentials", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the databases lie meanwhile")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name, tuned_server() as server:
        source = on_sqlite(Path(name) / "sqlite")
        source.prepare(options.credentials, "--proof", "jwt")
        target = on_postgresql(Path(name) / "postgresql", server, "moved")
        command = [str(PROGRAM), "move", "--to", server.url("moved"), "--yes", "--json"]
        seconds, peak = watch(command, source.environment, source.folder)
        print(f"moved {options.credentials:,} credentials in {seconds:.1f} s, peak {peak / MEBIBYTE:.0f} MiB")
        compare(source.facts(), target.facts())


def compare(before: Facts, after: Facts) -> None:
    """Say table by table what is equal; the command ends with 1 where something is not."""
    for table, digest in before.digests.items():
        same = after.digests.get(table) == digest and after.rows.get(table) == before.rows[table]
        print(f"{'equal' if same else 'DIFFERENT':10} {table:24} {before.rows[table]:10,} rows  {digest}")
        if not same:
            sys.exit(1)


if __name__ == "__main__":
    main()
