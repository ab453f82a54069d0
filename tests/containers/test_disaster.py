"""R13: all is lost but the repository, .env and a backup. The guide's seven steps, on an empty machine."""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import psutil
import pytest

from tests.containers.engine import ROOT, Images
from tests.containers.site import Site
from tests.s3_server import S3Server, running_s3

REPOSITORY = "https://github.com/your-org/openbadges-modular-server.git"
UP = "docker-compose -f docker-compose.prod.yml up -d"
RESTORE = (
    "docker-compose -f docker-compose.prod.yml run --rm -v ./backups:/backups backup /scripts/restore.sh {}"
)
CURL = "curl http://localhost:{}/health"
# The address of the guide leads to this checkout.
GIT = {
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": f"url.{ROOT}.insteadOf",
    "GIT_CONFIG_VALUE_0": REPOSITORY,
    "GIT_CONFIG_KEY_1": "safe.directory",
    "GIT_CONFIG_VALUE_1": "*",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What is left of a machine that burnt down."""

    settings: dict[str, str]
    file: Path
    credential: str
    store: str


@pytest.fixture(scope="module")
def store() -> Iterator[S3Server]:
    """An S3 server that containers reach: it listens on their bridge."""
    bridge = next(each for each in psutil.net_if_addrs()["docker0"] if each.family is socket.AF_INET)
    with running_s3(bridge.address) as server:
        yield server


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def lost(request: pytest.FixtureRequest, folder: Path, images: Images, store: S3Server) -> Lost:
    """A server was started, issued a badge, made a backup, copied it to a store - and is gone."""
    kind = request.param
    url = f"s3://backups/{kind}"
    away = {"BACKUP_STORES": url, "AWS_ENDPOINT_URL": store.endpoint, **store.environment}
    name = f"obms-lost-{kind}-{os.getpid()}"
    with Site.made(folder / name, kind, images, **away) as site:
        assert site.run(UP).code == 0
        site.api().wait_until_healthy()
        credential = site.api().issue()
        made = site.obms("backup run")
        assert made["proven"]
        shutil.copyfile(site.backups / made["file"], folder / made["file"])
        settings = {**site.settings, "COMPOSE_PROJECT_NAME": f"obms-new-{kind}-{os.getpid()}"}
        return Lost(settings=settings, file=folder / made["file"], credential=credential, store=url)


def test_the_seven_steps_bring_it_back_from_a_file(lost: Lost, folder: Path) -> None:
    settings = {name: value for name, value in lost.settings.items() if "STORES" not in name}
    with new_machine(folder, settings) as (site, started):
        copy = f"mkdir -p backups && cp {lost.file} backups/"
        with site.typed(copy, "step 3: the backup file is there"):
            assert (site.backups / lost.file.name).exists()
        site.write_settings()
        with site.typed(RESTORE.format(f"/backups/{lost.file.name}"), "step 5: restored on an empty server"):
            pass
        back(site, lost, started, "a file")


def test_the_url_of_a_store_and_the_key_bring_it_back(lost: Lost, folder: Path) -> None:
    with new_machine(folder, lost.settings) as (site, started):
        site.write_settings()
        with site.typed(RESTORE.format(f"{lost.store}/latest"), "step 5: restored from the store alone"):
            pass
        back(site, lost, started, "a store")


@contextmanager
def new_machine(folder: Path, settings: dict[str, str]) -> Iterator[tuple[Site, float]]:
    """Step 2, and when it began. What is made there is gone at the end."""
    machine = Path(mkdtemp(dir=folder))
    outside = Site(folder=machine, kind=settings["DB_TYPE"])
    started = time.monotonic()
    with outside.typed(f"git clone {REPOSITORY}", "step 2: the repository is there", environment=GIT):
        site = Site(folder=machine / "openbadges-modular-server", kind=outside.kind, settings={**settings})
        assert not (site.folder / "backups").exists()
    try:
        yield site, started
    finally:
        site.remove()


def back(site: Site, lost: Lost, started: float, source: str) -> None:
    """Steps 6 and 7: the badge verifies, and more can be signed."""
    api = site.api()
    with site.typed(UP, "step 6: everything is started"):
        api.wait_until_healthy()
    with site.typed(
        CURL.format(site.settings["PORT"]), "step 7: healthy; the badge verifies, and new ones too"
    ) as ended:
        assert '"status":"degraded"' in ended.out or '"status":"ok"' in ended.out
        assert api.state(lost.credential) == "valid"
        assert api.state(api.issue()) == "valid"
    seconds = time.monotonic() - started
    print(f"{site.kind:<10} {seconds:6.1f} s  from the first command to a verified API, from {source}")
