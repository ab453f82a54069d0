"""Every command of the guide, in its order, typed as it stands there, on each kind of database."""

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.containers.engine import Images, docker
from tests.containers.site import PATIENCE, Site, left_of

UP = "docker-compose -f docker-compose.prod.yml up -d"
STOP = "docker-compose -f docker-compose.prod.yml stop api"
START = "docker-compose -f docker-compose.prod.yml start api"
BACKUP = "docker-compose -f docker-compose.prod.yml run --rm backup /scripts/backup.sh"
RESTORE = (
    "docker-compose -f docker-compose.prod.yml run --rm -v ./backups:/backups backup /scripts/restore.sh {}"
)
BY_HAND = {
    "sqlite": (
        "sqlite3 /data/openbadges.db \".backup '/backups/sqlite_backup_$(date +%Y-%m-%d).db'\"\n"
        "gzip /backups/sqlite_backup_*.db"
    ),
    "postgresql": (
        "PGPASSWORD=your_password pg_dump -h db -U postgres openbadges"
        " | gzip > /backups/postgres_backup_$(date +%Y-%m-%d).sql.gz"
    ),
}
IN_A_CONTAINER = "docker-compose -f docker-compose.prod.yml run --rm backup sh -c '{}'"
FIND = 'find {} -name "*.gz" -type f -mtime +7 -delete'
TEST_UP = "docker-compose -f docker-compose.test.yml up -d"
TEST_RESTORE = (
    "docker-compose -f docker-compose.test.yml run --rm -v ./backups:/backups backup /scripts/restore.sh {}"
)
TEST_VERIFY = (
    "docker-compose -f docker-compose.test.yml logs --no-color test-api"
    " | docker-compose -f docker-compose.test.yml run --rm -T backup"
    " obms verify-deployment --url http://api:3000 --log -"
)
TEST_DOWN = "docker-compose -f docker-compose.test.yml down -v"
# A proven backup made by a machine whose clock shows what it was ten days ago.
TEN_DAYS_AGO = """
from dataclasses import replace
from datetime import timedelta
from obms.app import open_backups
from obms.backup.run import run
from obms.config import read_settings
from obms.observe import utc_now
from obms.web.probe import probe
backups = open_backups(read_settings(), probe)
made = run(replace(backups, clock=lambda: utc_now() - timedelta(days=10)))
assert made.proven, made.verdict
print(made.manifest.id)
"""
OLD_ENOUGH = 8 * 86400
# Since the first of them.
TWO_DUE_TIMES = timedelta(seconds=65)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, folder: Path, images: Images) -> Iterator[Site]:
    """A deployment with a schedule of one minute, which is started by the first test."""
    with Site.made(
        folder / f"obms-guide-{request.param}-{os.getpid()}",
        request.param,
        images,
        BACKUP_SCHEDULE="* * * * *",
    ) as made:
        yield made


@contextmanager
def between_runs(site: Site) -> Iterator[None]:
    """While no run is at work, and none can begin."""
    path = site.backups / ".lock"
    if not path.exists():
        yield
        return
    with path.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def put_to_sleep(site: Site) -> None:
    """Let the scheduler stand still while it waits for a time that is to come, and has no run to end."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with between_runs(site):
            site.run("docker-compose -f docker-compose.prod.yml pause scheduler")
        if any(due > datetime.now(UTC) for due in due_times(site)):
            return
        assert time.monotonic() < deadline, log_of(site)
        site.run("docker-compose -f docker-compose.prod.yml unpause scheduler")


def newest(site: Site) -> str:
    """The file name of the newest proven backup."""
    return str(site.proven()[-1]["id"]) + (".db.gz" if site.kind == "sqlite" else ".sql.gz")


def test_up_alone_gives_proven_backups_and_removes_what_is_too_old(site: Site) -> None:
    with site.typed(UP, "the API is healthy; no PostgreSQL is started for SQLite"):
        site.api().wait_until_healthy()
        running = docker("ps", "--filter", f"name={site.folder.name}", "--format", "{{.Names}}")
        assert ("_db_" in running) == (site.kind == "postgresql")
    put_to_sleep(site)
    site.api().issue()
    # Where one of today is, the name of the next comes after it, and it counts as that young.
    for path in site.backups.glob("*_backup_*"):
        path.unlink()
    made = site.python(TEN_DAYS_AGO)
    assert made.code == 0, made.out + made.err
    old = made.out.split()[-1]
    woken = site.run("docker-compose -f docker-compose.prod.yml unpause scheduler")
    assert woken.code == 0, woken.err
    deadline = time.monotonic() + PATIENCE
    while old in (proven := {proof["id"] for proof in site.proven()}) or not proven:
        assert time.monotonic() < deadline, log_of(site)
        time.sleep(0.5)
    print(f"{site.kind:<10} the schedule fired by itself; {old}, past BACKUP_RETENTION_DAYS, is gone")
    put_to_sleep(site)


def test_a_manual_backup_is_made_and_proven(site: Site) -> None:
    before = {proof["id"] for proof in site.proven()}
    with site.typed(BACKUP, "a new backup, proven") as ended:
        assert len({proof["id"] for proof in site.proven()} - before) == 1
        assert ended.out.rstrip().endswith("proven")


def test_a_restore_brings_rows_back_takes_later_ones_away_and_keeps_revocations(site: Site) -> None:
    """R10, R12: and nobody is asked."""
    api = site.api()
    kept, revoked, deleted = api.issue(), api.issue(), api.issue()
    assert site.run(BACKUP).code == 0
    file = newest(site)
    later = api.issue()
    api.revoke(revoked)
    api.delete(deleted)
    with site.typed(STOP, "nobody answers"):
        assert api.health() is None
    with site.typed(RESTORE.format(f"/backups/{file}"), "1 later revocation is kept") as ended:
        assert "later revocations kept: 1" in ended.out
    with site.typed(START, "deleted rows are back, later ones gone, the revoked one stays revoked"):
        api.wait_until_healthy()
        states = [api.state(id) for id in (kept, deleted, later, revoked)]
        assert states == ["valid", "valid", "gone", "revoked"]


def test_a_restore_while_the_api_runs_needs_no_restart(site: Site) -> None:
    api = site.api()
    assert api.health() is not None
    later = api.issue()
    with site.typed(
        "docker-compose -f docker-compose.prod.yml run --rm backup /scripts/restore.sh latest",
        "the API goes on, and the later row is gone",
    ):
        assert api.state(later) == "gone"
        assert api.health() is not None


def test_what_the_direct_commands_make_restores(site: Site) -> None:
    """R9: by hand."""
    api = site.api()
    here = api.issue()
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    name = f"sqlite_backup_{today}.db.gz" if site.kind == "sqlite" else f"postgres_backup_{today}.sql.gz"
    with site.typed(IN_A_CONTAINER.format(BY_HAND[site.kind].replace("'", "'\\''")), f"{name} is there"):
        assert (site.backups / name).stat().st_size > 1000
    later = api.issue()
    assert site.run(STOP).code == 0
    with site.typed(RESTORE.format(f"/backups/{name}"), "it is restored"):
        assert site.run(START).code == 0
        api.wait_until_healthy()
        assert [api.state(here), api.state(later)] == ["valid", "gone"]


def test_old_files_are_removed_by_hand(site: Site) -> None:
    old = site.backups / "sqlite_backup_2020-01-01.db.gz"
    old.write_bytes(b"")
    moment = time.time() - OLD_ENOUGH
    os.utime(old, (moment, moment))
    others = {path.name for path in site.backups.glob("*.gz")} - {old.name}
    with site.typed(FIND.format(site.backups), "the old file is gone, no other"):
        assert {path.name for path in site.backups.glob("*.gz")} == others


def test_a_backup_is_tried_beside_production_which_is_not_touched(site: Site) -> None:
    api, other = site.api(), site.api(test=True)
    here = api.issue()
    assert site.run(BACKUP).code == 0
    later = api.issue()
    before = everything_in(site.backups), started(site)
    with site.typed(TEST_UP, "a second server on its own port"):
        other.wait_until_healthy()
    with site.typed(
        TEST_RESTORE.format(f"/backups/{newest(site)}"), "restored into it, and not into production"
    ):
        assert [other.state(here), other.state(later)] == ["valid", "gone"]
        assert api.state(later) == "valid"
    with site.typed(
        TEST_VERIFY, "the tests against the restored database pass, no error in the log"
    ) as ended:
        assert "BAD" not in ended.out
    with site.typed(TEST_DOWN, "nothing of it is left; production runs on, its backups are as they were"):
        assert [name for name in left_of(site.folder) if "test" in name] == []
        assert (everything_in(site.backups), started(site)) == before
        assert api.state(later) == "valid"


def test_what_was_due_while_the_machine_slept_is_made_up_for_once(site: Site) -> None:
    """S1: the process that keeps the schedule stood still for minutes."""
    before = {proof["id"] for proof in site.proven()}
    assert len(due_times(site)) >= 1
    missed = due_times(site)[-1]
    time.sleep(max(0.0, (missed + TWO_DUE_TIMES - datetime.now(UTC)).total_seconds()))
    woken = datetime.now(UTC)
    with site.typed(
        "docker-compose -f docker-compose.prod.yml unpause scheduler", "one backup is made at once"
    ):
        deadline = time.monotonic() + PATIENCE
        while due_times(site)[-1] == missed:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert due_times(site)[-1] > woken, "there was one run for all that was missed"
        assert {proof["id"] for proof in site.proven()} - before, log_of(site)


def test_down_leaves_the_backups(site: Site) -> None:
    files = {path.name for path in site.backups.glob("*.gz")}
    site.remove()
    assert left_of(site.folder) == []
    assert {path.name for path in site.backups.glob("*.gz")} >= files


def everything_in(folder: Path) -> dict[str, tuple[int, float]]:
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def started(site: Site) -> list[str]:
    """When each container of production was started."""
    ids = docker("ps", "-q", "--filter", f"label=com.docker.compose.project={site.folder.name}").split()
    lines = docker("inspect", "--format", "{{.Name}} {{.State.StartedAt}}", *ids).splitlines()
    return sorted(line for line in lines if "test" not in line)


def log_of(site: Site) -> str:
    """What the scheduler said."""
    return site.run("docker-compose -f docker-compose.prod.yml logs --no-color scheduler").out


def due_times(site: Site) -> list[datetime]:
    """What it waited for."""
    return [datetime.fromisoformat(at) for at in re.findall(r"event=schedule\.next at=(\S+)", log_of(site))]
