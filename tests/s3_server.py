"""A real S3 server for the tests: SeaweedFS on loopback, with a folder, free ports and a key of its own."""

import json
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from obms.backup.object_store import ObjectStore
from obms.backup.s3_requests import S3Requests
from obms.backup.stores import open_store
from tests.real_faults import wait_until

HOST = "127.0.0.1"
BUCKET = "backups"
READER = "reader"
PROGRAM = Path(sys.executable).parent / "weed"
PORTS = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
QUIET = ("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-s3.iam=false")
SMALL = ("-volume.max=50", "-master.volumeSizeLimitMB=64", "-master.volumePreallocate=false")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """Where it listens, the key that opens it, and one that may only read. It has one bucket."""

    port: int
    key: str
    secret: str
    host: str = HOST
    reader: str = READER

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}

    @property
    def reading(self) -> dict[str, str]:
        """The settings of one who may not write."""
        return self.environment | {"AWS_ACCESS_KEY_ID": self.reader}

    @property
    def credentials(self) -> dict[str, dict[str, str]]:
        return {"s3": {"access_key_id": self.key, "secret_access_key": self.secret}}

    def url(self, place: str, *options: str, endpoint: str | None = None) -> str:
        """The URL of a store; tests have no patience, and small parts."""
        given = ("attempts=2", "timeout=10", "part_size=5242880", *options)
        return f"s3://{place}?{'&'.join((f'endpoint={endpoint or self.endpoint}', *given))}"

    def requests(self, place: str) -> S3Requests:
        """What a store asks by botocore."""
        storage = open_store(self.url(place), self.credentials).storage
        assert isinstance(storage, ObjectStore)
        assert storage.requests is not None
        return storage.requests

    def uploads(self, place: str) -> list[str]:
        """The names of what is there in part."""
        return [name for name, _ in self.requests(place).uploads()]


@contextmanager
def running_s3(host: str = HOST) -> Iterator[S3Server]:
    folder = Path(tempfile.mkdtemp(prefix="obms-s3-"))
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    allowed = {key: ["Admin", "Read", "Write", "List", "Tagging"], READER: ["Read", "List"]}
    identities = [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": actions}
        for name, actions in allowed.items()
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}), encoding="ascii")
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    server = S3Server(port=ports["s3.port"], key=key, secret=secret, host=host)
    given = [f"-{name}={port}" for name, port in ports.items()]
    where = [f"-dir={folder}", f"-ip={host}", f"-ip.bind={host}", f"-s3.config={folder / 's3.json'}"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "-logtostderr=true", "server", "-filer", "-s3", *where, *given, *QUIET, *SMALL],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: _answers(process, server), "the start of the S3 server")
        # A bucket is made by the first object in it.
        open_store(server.url(BUCKET), server.credentials).storage.put("a", iter(()))
        yield server
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _answers(process: "subprocess.Popen[bytes]", server: S3Server) -> bool:
    assert process.poll() is None, "the S3 server ended"
    try:
        return httpx.get(f"{server.endpoint}/healthz").is_success
    except httpx.TransportError:
        return False
