"""Measure backups and restores against the usual direct commands, side by side in one run.

`python -m benchmarks.bench --credentials 100000 --database sqlite`
"""

import argparse
import json
import os
import platform
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil
from pyrage import x25519

from benchmarks.deployment import PROGRAM, Deployment, on_postgresql, on_sqlite, tuned_server

RESULTS = Path(__file__).parent / "latest.json"
MEBIBYTE = 1024 * 1024
REPEATS = 3
CHEAP_SECONDS = 20.0
SAMPLING_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One command: the median of its seconds, the bytes it left, the peak memory of its processes."""

    work: str
    by: str
    seconds: float
    runs: int
    bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A command to measure, what has to be done before each run, and how many bytes there are after it."""

    work: str
    by: str
    command: list[str]
    before: Callable[[], object] = lambda: None
    size: Callable[[], int] = lambda: 0


def main() -> None:
    options = arguments()
    for program in ("sqlite3", "gzip"):
        if shutil.which(program) is None:
            sys.exit(f"The comparison needs the program {program}: apt install {program}")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        measures = [
            measure
            for kind in KINDS
            if options.database in (kind, "both")
            for measure in KINDS[kind](Path(name), options)
        ]
    write_results(measures, options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--credentials", type=int, default=1_000_000)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument(
        "--proof", choices=("jwt", "data-integrity"), default="jwt", help="of the seeded badges"
    )
    parser.add_argument("--folder", type=Path, help="where the databases lie meanwhile")
    return parser.parse_args()


# The two databases


def on_sqlite_measured(folder: Path, options: argparse.Namespace) -> Iterator[Measure]:
    deployment = on_sqlite(folder / "sqlite")
    fill(deployment, options)
    theirs = folder / "theirs"
    theirs.mkdir()
    copy, image, target = theirs / "copy.db", theirs / "copy.db.gz", theirs / "restored.db"
    backup = f"sqlite3 {deployment.sqlite_file} \".backup '{copy}'\" && gzip {copy}"
    restore = f"gunzip -c {image} > {target}.new && cp {target}.new {target}"
    yield from measured(
        deployment,
        shell("backup", ".backup + gzip", backup, before=lambda: remove(image), size=lambda: size(image)),
        shell("restore", "gunzip + cp", restore, before=lambda: remove(target), size=lambda: size(target)),
    )


def on_postgresql_measured(folder: Path, options: argparse.Namespace) -> Iterator[Measure]:
    with tuned_server() as server:
        deployment = on_postgresql(folder / "postgresql", server, "openbadges")
        fill(deployment, options)
        image = folder / "theirs.sql.gz"
        other = on_postgresql(folder / "other", server, "restored")
        backup = f"pg_dump -d openbadges | gzip > {image}"
        restore = f"gunzip -c {image} | psql -q -v ON_ERROR_STOP=1 -o /dev/null -d restored"
        yield from measured(
            deployment,
            shell("backup", "pg_dump | gzip", backup, size=lambda: size(image)),
            shell("restore", "gunzip | psql", restore, before=other.recreate),
            environment=server.environment(),
        )


KINDS = {"sqlite": on_sqlite_measured, "postgresql": on_postgresql_measured}


def fill(deployment: Deployment, options: argparse.Namespace) -> None:
    began = time.perf_counter()
    deployment.prepare(options.credentials, "--proof", options.proof)
    seconds = time.perf_counter() - began
    print(f"\n{deployment.kind}: {options.credentials:,} credentials seeded in {seconds:.1f} s\n", flush=True)
    print(f"{'work':28} {'by':18} {'seconds':>8} {'MiB':>8} {'peak MiB':>9} {'ratio':>7}")


def measured(
    deployment: Deployment, their_backup: Job, their_restore: Job, environment: dict[str, str] | None = None
) -> Iterator[Measure]:
    """Theirs and ours, one after the other, each printed as it ends; the ratio is against theirs."""
    environment = {**(environment or {}), **deployment.environment}
    jobs = (
        (
            their_backup,
            (
                publishing := ours(deployment, "backup, published", "backup", "run", "--no-prove"),
                changed(publishing, "backup, encrypted", BACKUP_AGE_RECIPIENTS=new_recipient()),
                changed(publishing, "backup, small", BACKUP_COMPRESSION="small"),
                ours(deployment, "backup, proven", "backup", "run"),
            ),
        ),
        (their_restore, restores(deployment)),
    )
    for theirs, own in jobs:
        base = run(theirs, environment, deployment.folder)
        yield shown(base, deployment.kind, base)
        for job in own:
            yield shown(run(job, environment, deployment.folder), deployment.kind, base)


def shell(
    work: str,
    by: str,
    command: str,
    before: Callable[[], object] = lambda: None,
    size: Callable[[], int] = lambda: 0,
) -> Job:
    return Job(work=work, by=by, command=["bash", "-o", "pipefail", "-c", command], before=before, size=size)


def ours(deployment: Deployment, work: str, *command: str) -> Job:
    return Job(
        work=work,
        by="obms",
        command=[str(PROGRAM), *command, "--json"],
        size=lambda: newest(deployment.backups) if command[0] == "backup" else 0,
    )


def restores(deployment: Deployment) -> tuple[Job, ...]:
    """Over the live database, which is saved first, and where nothing is left of it."""
    job = ours(deployment, "restore, checked", "restore", "latest", "--yes")
    return job, replace(job, work="restore, all was lost", before=deployment.lose)


def changed(job: Job, work: str, **settings: str) -> Job:
    """The same job under other settings."""
    given = [f"{name}={value}" for name, value in settings.items()]
    return replace(job, work=work, command=["env", *given, *job.command])


def new_recipient() -> str:
    return str(x25519.Identity.generate().to_public())


# Measuring


def run(job: Job, environment: dict[str, str], folder: Path) -> Measure:
    """Run a job once, and twice more when that was cheap."""
    seconds: list[float] = []
    peak = 0
    while len(seconds) < (REPEATS if max(seconds, default=0) < CHEAP_SECONDS else 1):
        job.before()
        took, memory = watch(job.command, environment, folder)
        seconds.append(took)
        peak = max(peak, memory)
    return Measure(
        work=job.work,
        by=job.by,
        seconds=statistics.median(seconds),
        runs=len(seconds),
        bytes=job.size(),
        peak_bytes=peak,
    )


def watch(command: list[str], environment: dict[str, str], folder: Path) -> tuple[float, int]:
    """Seconds and peak memory of a command with all its children; it has to succeed."""
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = psutil.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output)
        peak = 0
        while True:
            peak = max(peak, memory(process))
            try:
                status = process.wait(SAMPLING_SECONDS)
            except psutil.TimeoutExpired:
                continue
            break
        seconds = time.perf_counter() - began
        if status:
            output.seek(0)
            sys.exit(f"{' '.join(command)} ended with {status}: {output.read().decode()}")
    return seconds, peak


def memory(process: psutil.Process) -> int:
    """Resident bytes of a process and its children, shared pages counted by each."""
    total = 0
    try:
        for member in (process, *process.children(recursive=True)):
            total += member.memory_info().rss
    except psutil.NoSuchProcess:
        return total  # one of them ended between being listed and being asked
    return total


def size(path: Path) -> int:
    return path.stat().st_size


def newest(folder: Path) -> int:
    images = (path for path in folder.glob("*_backup_*.gz*") if path.suffix != ".json")
    return size(max(images, key=lambda path: path.name))


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)


# Results


def shown(measure: Measure, kind: str, base: Measure) -> Measure:
    stored = f"{measure.bytes / MEBIBYTE:8.1f}" if measure.bytes else " " * 8
    print(
        f"{kind + ' ' + measure.work:28} {measure.by:18} {measure.seconds:8.2f} {stored}"
        f" {measure.peak_bytes / MEBIBYTE:9.1f} {base.seconds / measure.seconds:6.1f}x",
        flush=True,
    )
    return replace(measure, work=f"{kind} {measure.work}")


def write_results(measures: list[Measure], options: argparse.Namespace) -> None:
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "sqlite_of_python": sqlite3.sqlite_version,
    }
    document = {
        "credentials": options.credentials,
        "proof": options.proof,
        "machine": machine,
        "measures": [asdict(measure) for measure in measures],
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {RESULTS.name}; ratio: how many times faster than the usual command")


if __name__ == "__main__":
    main()
