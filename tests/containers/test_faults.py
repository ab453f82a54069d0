"""Faults of a deployment of containers: killed, stopped, full, restarted under a backup."""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engine import Images, docker
from tests.containers.site import PATIENCE, Site
from tests.real_faults import fill_disk, small_disk

PROD = "docker-compose -f docker-compose.prod.yml"
BACKUP = f"{PROD} run --rm backup /scripts/backup.sh"
# Enough that a run can be met at work.
CREDENTIALS = 3000
GRACE = 30
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, folder: Path, images: Images) -> Iterator[Site]:
    """A deployment with badges and a proven backup."""
    kind = request.param
    with Site.made(folder / f"obms-faults-{kind}-{os.getpid()}", kind, images) as made:
        assert made.run(f"{PROD} up -d").code == 0
        made.obms(f"seed --credentials {CREDENTIALS} --proof jwt")
        assert made.obms("backup run")["proven"]
        made.api().wait_until_healthy()
        yield made


def at_work(site: Site) -> str:
    """The container of a backup that was just begun, and holds the lock."""
    container = site.run(f"{PROD} run -d backup /scripts/backup.sh").out.strip().splitlines()[-1]
    deadline = time.monotonic() + PATIENCE
    with (site.backups / ".lock").open("rb") as lock:
        while not _held(lock.fileno()):
            assert time.monotonic() < deadline, docker("logs", container)
            time.sleep(0.01)
    return container


def _held(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def images_of(site: Site) -> set[str]:
    """Whatever could be taken for a backup."""
    return {path.name for path in site.backups.iterdir() if "_backup_" in path.name}


def only(site: Site, kind: str, why: str) -> None:
    """Each command takes seconds: what does not depend on the database is done once."""
    if site.kind != kind:
        pytest.skip(why)


def ended(container: str) -> int:
    code = docker("wait", container, seconds=PATIENCE)
    docker("rm", container)
    return int(code)


def test_nobody_is_asked_and_exit_codes_are_passed_on(site: Site) -> None:
    """R12: without a terminal."""
    only(site, "sqlite", "it is the same with PostgreSQL")
    with site.typed(f"{PROD} run --rm backup obms restore latest", "refused: it wants --yes", code=8):
        pass
    with site.typed(f"{PROD} run --rm backup /scripts/restore.sh /backups/none.gz", "no such backup", code=2):
        pass
    (site.backups / "damaged.db.gz").write_bytes(b"\x1f\x8b\x08\x00 this is none")
    damaged = f"{PROD} run --rm -v ./backups:/backups backup /scripts/restore.sh /backups/damaged.db.gz"
    with site.typed(damaged, "damaged: refused, nothing touched", code=5):
        (site.backups / "damaged.db.gz").unlink()


def test_b7_a_backup_needs_no_api(site: Site) -> None:
    assert site.run(f"{PROD} stop api").code == 0
    before = images_of(site)
    with site.typed(BACKUP, "proven, with the API stopped (B7)") as done:
        assert done.out.rstrip().endswith("proven")
        assert len(images_of(site) - before) == 3
    assert site.run(f"{PROD} start api").code == 0


def test_s4_a_backup_that_is_told_to_end_leaves_nothing(site: Site) -> None:
    before = images_of(site)
    container = at_work(site)
    started = time.monotonic()
    docker("stop", "--time", str(GRACE), container)
    seconds = time.monotonic() - started
    assert seconds < GRACE, "it was killed"
    assert ended(container) == 143
    left = images_of(site) - before
    # The stop may come when the image is published and is being proven: then it is there whole.
    assert all(f"{name}.json" in left for name in left if not name.endswith(".json"))
    print(
        f"{site.kind:<10} {seconds:6.1f} s  docker stop, in mid-backup  ->  exit 143, nothing half-made (S4)"
    )


def test_r4_the_api_is_killed_and_restored_over(site: Site) -> None:
    api = site.api()
    api.wait_until_healthy()
    assert site.run(BACKUP).code == 0
    later = api.issue()
    pid = docker("inspect", "--format", "{{.State.Pid}}", site.container("api"))
    os.kill(int(pid), signal.SIGKILL)
    restore = f"{PROD} run --rm -v ./backups:/backups backup /scripts/restore.sh latest"
    with site.typed(restore, "over a killed API, which comes back by itself"):
        api.wait_until_healthy()
        assert api.state(later) == "gone"
        assert api.state(api.issue()) == "valid"


def test_b3_the_disk_of_the_backups_is_full(site: Site) -> None:
    only(site, "sqlite", "it is the same with PostgreSQL")
    before = images_of(site)
    small = site.folder / "small"
    with small_disk(small, 1024) as mounted:
        assert mounted, "only root may mount a small disk"
        os.chown(small, 10001, 10001)
        fill_disk(small, leave=100_000)
        full = f'{PROD} run --rm -v "$PWD/small:/small" -e BACKUP_DIR=/small backup /scripts/backup.sh'
        with site.typed(full, "the disk is full: said, and nothing is left (B3)", code=9):
            assert [path.name for path in small.iterdir() if "_backup_" in path.name] == []
    assert images_of(site) == before


def test_b2_the_database_is_restarted_under_a_backup(site: Site) -> None:
    only(site, "postgresql", "SQLite is no server")
    assert site.run(f"{PROD} stop api").code == 0
    before = images_of(site)
    psql = ["psql", "-h", "127.0.0.1", "-U", "postgres", "-d", "openbadges", "-At", "-c"]
    inside = ["-e", "PGPASSWORD=your_password", site.container("db"), *psql]
    # Somebody holds a table, so that the backup is met where it waits to read it.
    docker("exec", "-d", *inside, "BEGIN; LOCK TABLE credentials; SELECT pg_sleep(600)")
    container = at_work(site)
    deadline = time.monotonic() + PATIENCE
    while docker("exec", *inside, WAITING) == "0":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    docker("restart", "--time", "0", site.container("db"))
    # It is pg_dump that waits, as nothing before it asks for a lock: the backup was being made.
    assert ended(container) == 4
    assert images_of(site) == before
    assert site.run(f"{PROD} start api").code == 0
    site.api().wait_until_healthy()
    with site.typed(BACKUP, "after the database was restarted under one (B2, S3)") as done:
        assert done.out.rstrip().endswith("proven")
        assert site.api().state(site.api().issue()) == "valid"


def test_the_api_keeps_no_schedule_and_no_container_runs_as_root(site: Site) -> None:
    running = [site.container(service) for service in ("api", "scheduler")]
    users = [docker("exec", container, "id", "-u") for container in running]
    assert users == ["10001", "10001"]
    processes = docker("top", running[0], "-o", "pid,args")
    assert "backup schedule" not in processes
    for container in running:
        wrote = subprocess.run(
            ["docker", "exec", container, "touch", "/opt/obms/x"],
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert b"Read-only file system" in wrote.stderr


def test_a_folder_that_cannot_be_written_to_is_told_in_a_line(site: Site) -> None:
    only(site, "sqlite", "it is the same with PostgreSQL")
    other = site.folder / "of-root"
    other.mkdir()
    command = f'{PROD} run --rm -v "$PWD/of-root:/of-root" -e BACKUP_DIR=/of-root backup /scripts/backup.sh'
    with site.typed(command, "said how to mend it", code=9) as done:
        assert "sudo chown -R 10001" in done.err + done.out
