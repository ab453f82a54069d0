"""The stores of Google and Azure that the tests are asked of, and how the environment names them."""

import base64
import hashlib
import hmac
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from obms.config import CREDENTIALS
from tests.google_server import running_google, write_account
from tests.s3_server import BUCKET, HOST, S3Server

AZURE_VERSION = "2021-08-06"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """A bucket, where it is, the settings that open it, and a key that does not."""

    bucket: str
    endpoint: str | None
    environment: dict[str, str]
    wrong: dict[str, str]

    @property
    def scheme(self) -> str:
        return self.bucket.partition(":")[0]

    @property
    def credentials(self) -> dict[str, dict[str, str]]:
        """As the settings tell them."""
        names = CREDENTIALS[self.scheme]
        return {self.scheme: {key: self.environment[name.upper()] for key, name in names.items()}}

    def url(self, place: str, *options: str, endpoint: str | None = None) -> str:
        """The URL of a store in the bucket; tests have no patience, and small parts."""
        given = ["attempts=2", "timeout=10", "part_size=5242880", *options]
        where = endpoint or self.endpoint
        return f"{self.bucket}/{place}?{'&'.join([*given, *([f'endpoint={where}'] if where else [])])}"

    def nowhere(self) -> str:
        """The URL of a store in a bucket that is not there."""
        return self.url("x").replace(self.bucket, f"{self.bucket}-is-not-there")

    @property
    def port(self) -> int:
        """Where a proxy can be set before it."""
        parts = urlsplit(self.endpoint or "")
        if parts.scheme != "http" or parts.port is None:
            pytest.skip("a proxy cannot be set before it")
        return parts.port


@contextmanager
def google_cloud(s3: S3Server, folder: Path) -> Iterator[Cloud]:
    """The bucket of OBMS_TEST_GCS, which is a URL as in BACKUP_STORES, or else one of the stand-in."""
    other = write_account(folder / "other.json", rsa.generate_private_key(65537, 2048))
    wrong = {"GOOGLE_APPLICATION_CREDENTIALS": str(other)}
    if url := os.environ.get("OBMS_TEST_GCS"):
        yield _named(url, ("GOOGLE_APPLICATION_CREDENTIALS",), wrong)
        return
    with running_google(s3) as (port, account):
        yield Cloud(
            bucket=f"gs://{BUCKET}",
            endpoint=f"http://{HOST}:{port}",
            environment={"GOOGLE_APPLICATION_CREDENTIALS": str(account)},
            wrong=wrong,
        )


def azure_cloud() -> Cloud:
    """The container of OBMS_TEST_AZURE, as `az://container?endpoint=http://127.0.0.1:10000/account`."""
    url = os.environ.get("OBMS_TEST_AZURE")
    if not url:
        pytest.skip("OBMS_TEST_AZURE names no container")
    wrong = {"AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(b"a wrong key, and secret").decode()}
    cloud = _named(url, ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"), wrong)
    if cloud.endpoint:
        _make_container(cloud, cloud.endpoint)
    return cloud


def _named(url: str, settings: tuple[str, ...], wrong: dict[str, str]) -> Cloud:
    bucket, _, query = url.partition("?")
    environment = {name: os.environ[name] for name in settings}
    endpoint = parse_qs(query).get("endpoint", [None])[0]
    return Cloud(
        bucket=bucket.rstrip("/"),
        endpoint=endpoint,
        environment=environment,
        wrong=environment | wrong,
    )


def _make_container(cloud: Cloud, endpoint: str) -> None:
    """An emulator begins with none; one that is there is left as it is."""
    assert _put_to_azure(cloud, endpoint, "", "restype:container") in {201, 409}


def lease(cloud: Cloud, name: str) -> None:
    """Let nobody remove an object of Azure for a minute."""
    asked = {"x-ms-lease-action": "acquire", "x-ms-lease-duration": "60"}
    if not cloud.endpoint:
        pytest.skip("OBMS_TEST_AZURE names no endpoint to ask")
    assert _put_to_azure(cloud, cloud.endpoint, f"/{name}", "comp:lease", asked) == 201


def _put_to_azure(
    cloud: Cloud, endpoint: str, name: str, query: str, asked: Mapping[str, str] | None = None
) -> int:
    """What the client has no call for, signed as Azure asks for ("Shared Key"); its status."""
    account, key = (cloud.environment[f"AZURE_STORAGE_ACCOUNT_{part}"] for part in ("NAME", "KEY"))
    parts = urlsplit(endpoint)
    path = f"{parts.path.rstrip('/')}/{cloud.bucket.removeprefix('az://')}{name}"
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": AZURE_VERSION, **(asked or {})}
    lines = ["PUT", *[""] * 11, *(f"{header}:{value}" for header, value in sorted(headers.items()))]
    signed = "\n".join([*lines, f"/{account}{path}", query]).encode()
    signature = base64.b64encode(hmac.digest(base64.b64decode(key), signed, hashlib.sha256)).decode()
    return httpx.put(
        f"{parts.scheme}://{parts.netloc}{path}?{query.replace(':', '=')}",
        headers={**headers, "authorization": f"SharedKey {account}:{signature}"},
    ).status_code
