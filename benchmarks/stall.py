"""Measure how long a writer of a SQLite database waits for each commit, alone and while it is backed up.

`python -m benchmarks.stall --credentials 100000`
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from pysqlite3 import dbapi2 as sqlite3

from benchmarks.deployment import PROGRAM, Deployment, on_sqlite

ALONE_SECONDS = 5.0
PREPARE = "CREATE TABLE IF NOT EXISTS commits AS SELECT 0 AS number"
WRITE = "UPDATE commits SET number = number + 1"


class Writer:
    """Commits without a pause, as durably as the server does, and keeps the seconds of each commit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._over = Event()
        self.seconds: list[float] = []

    def write(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=60, check_same_thread=False)
        connection.execute(PREPARE)
        while not self._over.is_set():
            began = time.perf_counter()
            connection.execute(WRITE)
            self.seconds.append(time.perf_counter() - began)
        connection.close()

    def end(self) -> None:
        self._over.set()


@contextmanager
def writing(deployment: Deployment) -> Iterator[Writer]:
    writer = Writer(deployment.sqlite_file)
    thread = Thread(target=writer.write)
    thread.start()
    try:
        yield writer
    finally:
        writer.end()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--credentials", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the database lies meanwhile")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        deployment = on_sqlite(Path(name) / "sqlite")
        deployment.prepare(options.credentials, "--proof", "jwt")
        print(f"{'a writer, milliseconds':28} {'commits':>8} {'p50':>8} {'p99':>8} {'longest':>8}")
        with writing(deployment) as writer:
            Event().wait(ALONE_SECONDS)
        show("alone", writer)
        for work, command in {"published": ["--no-prove"], "proven": []}.items():
            with writing(deployment) as writer:
                subprocess.run(
                    [PROGRAM, "backup", "run", *command],
                    env=deployment.environment,
                    cwd=deployment.folder,
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
            show(f"while a backup is {work}", writer)


def show(work: str, writer: Writer) -> None:
    ordered = sorted(writer.seconds)
    if not ordered:
        sys.exit("the writer wrote nothing")
    p50, p99 = (ordered[len(ordered) * share // 100] * 1000 for share in (50, 99))
    longest = ordered[-1] * 1000
    print(f"{work:28} {len(ordered):8} {p50:8.2f} {p99:8.2f} {longest:8.2f}", flush=True)


if __name__ == "__main__":
    main()
