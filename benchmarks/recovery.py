"""Lose half of the badges of a running server and bring them back, while a client keeps reading.

`python -m benchmarks.recovery --credentials 100000 --database sqlite`
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx

from benchmarks.deployment import PROGRAM, Deployment, on_postgresql, on_sqlite
from obms.databases import Facts
from tests.postgres import free_port, running_server

REVOKED = 1000
PAGE = 500
API_KEY = "a-key-for-this-demonstration"


@dataclass(slots=True)
class Reader:
    """A client that reads badges without a pause, and counts what it is answered."""

    url: str
    ids: list[str]
    answers: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    over: Event = field(default_factory=Event)

    def read(self) -> None:
        with httpx.Client(base_url=self.url, timeout=30) as client:
            for number in count():
                if self.over.is_set():
                    return
                began = time.monotonic()
                path = f"/credentials/{self.ids[number % len(self.ids)]}"
                self.answers[self._ask(client, path)] += 1
                self.longest = max(self.longest, time.monotonic() - began)

    @staticmethod
    def _ask(client: httpx.Client, path: str) -> str:
        try:
            return str(client.get(path).status_code)
        except httpx.HTTPError as error:
            return type(error).__name__


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--credentials", type=int, default=100_000)
    parser.add_argument(
        "--lost", type=int, help="how many are deleted through the API; half of them by default"
    )
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    options = parser.parse_args()
    lost = options.credentials // 2 if options.lost is None else options.lost
    with tempfile.TemporaryDirectory() as name:
        if options.database != "postgresql":
            demonstrate(on_sqlite(Path(name) / "sqlite"), options.credentials, lost)
        if options.database != "sqlite":
            with running_server() as server:
                folder = Path(name) / "postgresql"
                demonstrate(on_postgresql(folder, server, "openbadges"), options.credentials, lost)


def demonstrate(deployment: Deployment, credentials: int, lost_credentials: int) -> None:
    """Print each step, and exit with 1 if one is not as it must be."""
    show("==", deployment.kind)
    deployment.prepare(credentials, "--proof", "jwt")
    backup = told("backup run", deployment.must("backup", "run", "--json"))
    show("proof", ", ".join(check["name"] for check in backup["proof"]["checks"]))
    before = deployment.facts()
    with serving(deployment) as url:
        with reading(url, sample_ids(url)) as reader:
            lose(url, lost_credentials)
            lost = deployment.facts()
            restored = told("restore latest", deployment.must("restore", "latest", "--yes", "--json"))
        show("reader", f"{dict(reader.answers)}, longest wait {reader.longest:.2f} s")
        after = deployment.facts()
        judge("rows of the snapshot are back", back(before, after))
        judge("revocations kept", restored["revocations_kept"] > 0)
        judge("only answers and 503", set(reader.answers) <= {"200", "404", "410", "503"})
        verdict = told("backup verify", deployment.must("backup", "verify", backup["id"], "--json"))
        judge("every sampled badge verifies", verdict["level"] == "proven")
        told("restore --undo", deployment.must("restore", "--undo", "--yes", "--json"))
        undone = deployment.facts()
        show("tables that differ after undo", f"{differing(lost, undone)}")
        judge("undo brings the other state back", undone.digests == lost.digests)


def differing(before: Facts, after: Facts) -> list[str]:
    """The tables whose rows are not the same."""
    return sorted(name for name in before.digests if before.digests[name] != after.digests[name])


def back(before: Facts, after: Facts) -> bool:
    """Whether all is as it was, but for the revocations that a restore keeps."""
    changed = differing(before, after)
    show("tables that differ", f"{changed}, rows {dict(after.rows)}")
    kept = {"revocations", "status_entries", "status_lists"}
    return kept.issuperset(changed) and before.rows["credentials"] == after.rows["credentials"]


def lose(url: str, wanted: int) -> None:
    """Revoke some badges and delete half of all, through the API."""
    ids = [identifier for page in pages(url, wanted + REVOKED) for identifier in page]
    with (
        httpx.Client(base_url=url, headers={"X-API-Key": API_KEY}, timeout=60) as client,
        ThreadPoolExecutor(4) as pool,
    ):

        def answers(method: str, names: list[str], end: str = "") -> Counter[int]:
            return Counter(
                pool.map(lambda name: client.request(method, f"/credentials/{name}{end}").status_code, names)
            )

        revoked = answers("POST", ids[:REVOKED], "/revoke")
        removed = answers("DELETE", ids[REVOKED:])
    show("lost", f"revoked {dict(revoked)}, deleted {dict(removed)}")


def pages(url: str, wanted: int) -> Iterator[list[str]]:
    with httpx.Client(base_url=url, headers={"X-API-Key": API_KEY}, timeout=60) as client:
        for offset in range(0, wanted, PAGE):
            limit = min(PAGE, wanted - offset)
            listed = client.get("/credentials", params={"limit": limit, "offset": offset}).json()
            yield [entry["id"].rsplit("/", 1)[-1].removeprefix("urn:uuid:") for entry in listed]


def sample_ids(url: str) -> list[str]:
    return next(pages(url, 50))


@contextmanager
def serving(deployment: Deployment) -> Iterator[str]:
    """The API of the deployment, on a port of its own."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    own = {"PORT": str(port), "AUTH_API_KEY": API_KEY, "BACKUP_SCHEDULE": "off"}
    with subprocess.Popen(
        [PROGRAM, "serve"], cwd=deployment.folder, env={**deployment.environment, **own}
    ) as server:
        try:
            wait_for(url, server)
            yield url
        finally:
            server.terminate()


def wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    transport = httpx.HTTPTransport(retries=8)  # tries again, each time later, while nobody listens
    with httpx.Client(transport=transport, timeout=30) as client:
        answer = client.get(f"{url}/health")
    if server.poll() is not None or answer.status_code != httpx.codes.OK:
        sys.exit(f"the API did not start: {answer.text}")


@contextmanager
def reading(url: str, ids: list[str]) -> Iterator[Reader]:
    reader = Reader(url=url, ids=ids)
    thread = Thread(target=reader.read)
    thread.start()
    try:
        yield reader
    finally:
        reader.over.set()
        thread.join()


def told(step: str, printed: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(printed)
    brief = {name: value for name, value in result.items() if name not in ("checks", "proof", "rows")}
    show(step, json.dumps(brief))
    return result


def judge(what: str, holds: bool) -> None:  # noqa: FBT001 - a claim and whether it holds
    show("ok" if holds else "NOT SO", what)
    if not holds:
        sys.exit(1)


def show(name: str, text: str) -> None:
    print(f"{name}: {text}", flush=True)


if __name__ == "__main__":
    main()
