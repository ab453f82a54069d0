"""Four faults that common backup scripts get wrong, run for real: what they say and do, and what ours do."""

import gzip
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CalledProcessError

from benchmarks.deployment import COMMON, Completed, Deployment, on_postgresql, on_sqlite, write_and_die
from tests.postgres import Server, running_server

CREDENTIALS = 200
UNREACHABLE = 3
DAMAGED = 5
LATER = "written after the backup"
ADD_LATER = (
    "INSERT INTO issuers (id, name, url, created_at, updated_at)"
    f" VALUES ('later', '{LATER}', 'https://later.example', '2026-01-01', '2026-01-01');"
)
LOSE_HALF = (
    f"DELETE FROM credentials WHERE id IN (SELECT id FROM credentials ORDER BY id LIMIT {CREDENTIALS // 2});"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one side ended: its exit status, what it said, what was found then, whether that is right."""

    status: int
    said: str
    found: str
    right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    title: str
    theirs: Callable[[Deployment], Outcome]
    ours: Callable[[Deployment], Outcome]
    on: Callable[[Path, Server, str], Deployment] = on_postgresql


def main() -> None:
    print("What happens when things go wrong: two common shell scripts, and this program.\n")
    with running_server() as server, tempfile.TemporaryDirectory() as folder:
        outcomes = [outcome for case in CASES for outcome in play(case, server, Path(folder))]
    sys.exit(0 if all(outcome.right for outcome in outcomes[1::2]) else 1)


def play(case: Case, server: Server, folder: Path) -> Iterator[Outcome]:
    """Both sides of one case, each on a deployment of its own."""
    number = CASES.index(case) + 1
    print(f"{number}. {case.title}")
    theirs, ours = (
        case.on(folder / f"{number}-{name}", server, f"case_{number}_{name}") for name in ("scripts", "obms")
    )
    theirs.prepare(CREDENTIALS, "--proof", "jwt")
    ours = replace(ours, secret_key=theirs.secret_key)
    ours.become(theirs)
    for name, side, deployment in (("scripts", case.theirs, theirs), ("obms", case.ours, ours)):
        outcome = side(deployment)
        verdict = "right" if outcome.right else "WRONG"
        said = outcome.said.replace(str(folder), "...")
        print(f"   {name:8} exit {outcome.status}, {said!r}\n   {'':8} {verdict}: {outcome.found}")
        yield outcome
    print()


# 1. The dump fails in the pipe


def failing_dump_theirs(deployment: Deployment) -> Outcome:
    result = backup_script(deployment, POSTGRES_PASSWORD="wrong")
    file = only_file(deployment.backups)
    with gzip.open(file) as content:
        size = len(content.read())
    found = f"a backup of {file.stat().st_size} bytes, with {size} bytes of SQL in it"
    return Outcome(
        status=result.returncode, said=verdict_of(result), found=found, right=result.returncode != 0
    )


def failing_dump_ours(deployment: Deployment) -> Outcome:
    result = deployment.obms("backup", "run", POSTGRES_PASSWORD="wrong")
    left = list(deployment.backups.glob("*_backup_*"))
    right = result.returncode == UNREACHABLE and not left
    return Outcome(
        status=result.returncode, said=verdict_of(result), found=f"{len(left)} files published", right=right
    )


# 2. A restore over a live PostgreSQL database


def live_database_theirs(deployment: Deployment) -> Outcome:
    backup_script(deployment)
    deployment.query(LOSE_HALF + ADD_LATER)
    result = restore_script(deployment, only_file(deployment.backups))
    errors = sum("ERROR" in line for line in result.stderr.splitlines())
    return judged(deployment, result, f", {errors} errors on the way")


def live_database_ours(deployment: Deployment) -> Outcome:
    deployment.must("backup", "run")
    deployment.query(LOSE_HALF + ADD_LATER)
    return judged(deployment, deployment.obms("restore", "latest", "--yes"))


# 3. A truncated dump


def truncated_dump_theirs(deployment: Deployment) -> Outcome:
    backup_script(deployment)
    file = truncated(only_file(deployment.backups))
    deployment.recreate()
    return judged(deployment, restore_script(deployment, file))


def truncated_dump_ours(deployment: Deployment) -> Outcome:
    deployment.must("backup", "run")
    file = truncated(only_file(deployment.backups))
    outcome = judged(deployment, deployment.obms("restore", str(file), "--yes"))
    return replace(outcome, right=outcome.right and outcome.status == DAMAGED)


# 4. A leftover WAL


def leftover_wal_theirs(deployment: Deployment) -> Outcome:
    backup_script(deployment)
    write_and_die(deployment.sqlite_file, ADD_LATER + LOSE_HALF)
    return judged(deployment, restore_script(deployment, only_file(deployment.backups)))


def leftover_wal_ours(deployment: Deployment) -> Outcome:
    deployment.must("backup", "run")
    write_and_die(deployment.sqlite_file, ADD_LATER + LOSE_HALF)
    return judged(deployment, deployment.obms("restore", "latest", "--yes"))


CASES = (
    Case(title="pg_dump fails: the password is wrong", theirs=failing_dump_theirs, ours=failing_dump_ours),
    Case(
        title="a restore over a live PostgreSQL database, half of it lost and something added since",
        theirs=live_database_theirs,
        ours=live_database_ours,
    ),
    Case(
        title="a restore of a dump that was cut off (theirs into an empty database, ours over the live one)",
        theirs=truncated_dump_theirs,
        ours=truncated_dump_ours,
    ),
    Case(
        title="a restore of SQLite where a killed server left its -wal",
        theirs=leftover_wal_theirs,
        ours=leftover_wal_ours,
        on=lambda folder, _server, _database: on_sqlite(folder),
    ),
)


# What both sides share


def backup_script(deployment: Deployment, **changed: str) -> Completed:
    return deployment.run(COMMON / "backup.sh", **changed)


def restore_script(deployment: Deployment, file: Path) -> Completed:
    return deployment.run(COMMON / "restore.sh", file)


def judged(deployment: Deployment, result: Completed, more: str = "") -> Outcome:
    """Right is: all credentials and nothing later, however it ended."""
    credentials = content(deployment, "SELECT count(*) FROM credentials")
    later = content(deployment, f"SELECT count(*) FROM issuers WHERE name = '{LATER}'")
    whole = credentials == str(CREDENTIALS) and later == "0"
    found = f"{credentials} of {CREDENTIALS} credentials, {later} rows from after the backup{more}"
    return Outcome(status=result.returncode, said=verdict_of(result), found=found, right=whole)


def content(deployment: Deployment, statement: str) -> str:
    try:
        return deployment.query(statement)
    except CalledProcessError:
        return "no answer about"


def only_file(folder: Path) -> Path:
    (file,) = folder.glob("*_backup_*.gz")
    return file


def truncated(file: Path) -> Path:
    """Cut off the last third, as a full disk does."""
    with file.open("r+b") as content:
        content.truncate(file.stat().st_size * 2 // 3)
    return file


def verdict_of(result: Completed) -> str:
    """The line in which a command says how it ended: our own begins with its name, a script's is its last."""
    lines = [line for line in (result.stderr + result.stdout).splitlines() if line.strip()]
    own = (line for line in lines if line.startswith(("obms: ", "restored ")))
    return next(own, lines[-1] if lines else "")


if __name__ == "__main__":
    main()
