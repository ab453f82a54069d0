"""Measure the API: one worker on one core, the load generator on the other.

`python -m benchmarks.http --seconds 5 --database sqlite`. Other work on the machine disturbs what is
seen; the processor time of the server per request, and its ratio to that of a trivial application, less.
"""

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.deployment import PROGRAM, Deployment, on_postgresql, on_sqlite
from tests.postgres import clean_environment, running_server

RESULTS = Path(__file__).parent / "latest-http.json"
MEBIBYTE = 1024 * 1024
CLIENTS = 16
ORDERS = 200
BATCH, BATCH_STATUS = 100, 201
START_SECONDS = 30.0
API_KEY = "a key of this benchmark"
ISSUER = {"name": "Benchmark School", "url": "https://school.example.org/"}
ACHIEVEMENT = {
    "name": "Measuring",
    "description": "Measures what is there to be measured.",
    "criteria": {"narrative": "Was seen to measure."},
    "image": "https://school.example.org/badge.png",
    "tags": ["measuring", "speed"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Requests that are sent over and over, in turn."""

    name: str
    requests: Sequence[str]
    target: int | None = None
    status: int = 200
    clients: int = CLIENTS
    each: int = 1  # what one request asks for counts so many times


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a work did: requests per second, processor seconds of the server for each, its memory after."""

    work: str
    target: int | None
    rate: float
    p99: float
    cpu: float
    rss: int
    wrong: dict[str, int]


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        seen = measure_all(Path(name), options)
    RESULTS.write_text(json.dumps([asdict(one) for one in seen], indent=2) + "\n", encoding="utf-8")
    if any(one.wrong for one in seen):
        sys.exit("some answers were not those that were wanted")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each work")
    parser.add_argument("--credentials", type=int, default=1000, help="of each proof")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", default="", help="works with this word in their names")
    parser.add_argument("--folder", type=Path, help="where the databases lie meanwhile")
    return parser.parse_args(given)


def measure_all(folder: Path, options: argparse.Namespace) -> list[Seen]:
    print(f"{'work':34} {'target':>7} {'seen/s':>8} {'p99 ms':>7} {'cpu ms':>7} {'ratio':>6} {'MiB':>5}")
    base = next(measured_trivial(folder, options))
    seen = [base]
    if options.database in ("sqlite", "both"):
        seen += measured(on_sqlite(folder / "sqlite"), options, base)
    if options.database in ("postgresql", "both"):
        with running_server(fsync="on", shared_buffers="256MB") as server:
            seen += measured(on_postgresql(folder / "postgresql", server, "openbadges"), options, base)
    return seen


def measured_trivial(folder: Path, options: argparse.Namespace) -> Iterator[Seen]:
    command = [sys.executable, "-m", "uvicorn", "benchmarks.trivial:app", "--no-access-log"]
    environment = {**clean_environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
    work = Work(name="trivial application", requests=[get("/")])
    with serving([*command, "--log-level", "warning"], environment, folder, options.workers) as served:
        yield shown(play(work, served, folder, options), None)


def measured(deployment: Deployment, options: argparse.Namespace, base: Seen) -> Iterator[Seen]:
    deployment.must("migrate")
    environment = {
        **deployment.environment,
        "AUTH_API_KEY": API_KEY,
        "BACKUP_SCHEDULE": "off",
        "RATE_LIMIT": "off",
        "WORKERS": str(options.workers),
    }
    for number, proof in enumerate(("data-integrity", "jwt"), 1):
        count = str(options.credentials)
        deployment.must("seed", "--credentials", count, "--seed", str(number), "--proof", proof)
    with serving([str(PROGRAM), "serve"], environment, deployment.folder, options.workers) as served:
        for work in works(deployment.kind, served.port, options.credentials):
            if options.only in work.name:
                yield shown(play(work, served, deployment.folder, options), base)


# What is asked


def works(kind: str, port: int, credentials: int) -> Iterator[Work]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, headers={"X-API-Key": API_KEY}) as api:
        signed = ids_by_proof(api, 2 * credentials)
        issuer = api.post("/issuers", json=ISSUER).json()["id"]
        badge = api.post("/achievements", json={**ACHIEVEMENT, "issuer": issuer}).json()["id"]
    every = [id for ids in signed.values() for id in ids]
    yield Work(name=f"{kind} get", target=15_000, requests=[get(f"/credentials/{id}") for id in every])
    for proof, target in (("data-integrity", 400), ("jwt", 1500)):
        asked = [get(f"/credentials/{id}/verify") for id in signed[proof]]
        yield Work(name=f"{kind} verify {proof}", target=target, requests=asked)
    for proof, target in (("data-integrity", 250), ("jwt", 800)):
        asked = [post("/credentials", order(badge, proof, number)) for number in range(ORDERS)]
        yield Work(name=f"{kind} issue {proof}", target=target, requests=asked, status=201)
        yield Work(name=f"{kind} issue {proof}, 1 client", requests=asked, status=201, clients=1)
        batch = post("/credentials/batch", {"credentials": [order(badge, proof, n) for n in range(BATCH)]})
        yield Work(
            name=f"{kind} issue {proof}, by {BATCH}",
            requests=[batch],
            status=BATCH_STATUS,
            clients=4,
            each=BATCH,
        )


def ids_by_proof(api: httpx.Client, total: int) -> dict[str, list[str]]:
    """The credentials that are not revoked, each read once, by the proof they have."""
    found: dict[str, list[str]] = {"data-integrity": [], "jwt": []}
    for offset in range(0, total, 1000):
        for listed in api.get("/credentials", params={"limit": 1000, "offset": offset}).json():
            id = listed["id"].rpartition("/")[2]
            if api.get(f"/credentials/{id}").status_code == 200:  # noqa: PLR2004 - and not 410
                found["data-integrity" if "proof" in listed else "jwt"].append(id)
    return found


def order(badge: str, proof: str, number: int) -> dict[str, Any]:
    return {
        "badge": badge,
        "recipient": {"type": "email", "identity": f"someone{number}@example.org"},
        "issuedOn": "2026-01-01T00:00:00Z",
        "proof": proof,
    }


def get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"


def post(path: str, body: dict[str, Any]) -> str:
    text = json.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {API_KEY}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}"


# Serving and measuring


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that runs: its port and its first process."""

    port: int
    process: psutil.Process
    load_cores: list[int]

    def members(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu(self) -> float:
        """Seconds of processor that all of its processes have used."""
        times = [member.cpu_times() for member in self.members()]
        return float(sum(time.user + time.system for time in times))

    def rss(self) -> int:
        """Resident bytes of the largest process: the worker."""
        return max(int(member.memory_info().rss) for member in self.members())


@contextmanager
def serving(
    command: Sequence[str], environment: dict[str, str], folder: Path, workers: int
) -> Iterator[Served]:
    port = free_port()
    cores = sorted(os.sched_getaffinity(0))
    with (folder / "served.log").open("wb") as log:
        by_setting = {**environment, "PORT": str(port), "HOST": "127.0.0.1"}
        given = [*command, "--port", str(port)] if "uvicorn" in command else [*command]
        process = subprocess.Popen(given, env=by_setting, cwd=folder, stdout=log, stderr=log)
        try:
            served = psutil.Process(process.pid)
            served.cpu_affinity(cores[:workers])
            wait_for(port, process)
            yield Served(port=port, process=served, load_cores=cores[-1:])
        finally:
            process.terminate()
            process.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Until it answers; SystemExit if it ends, or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/", timeout=10)
            return
        time.sleep(0.1)
    sys.exit(f"the server did not start: {process.args!r}")


def play(work: Work, served: Served, folder: Path, options: argparse.Namespace) -> Seen:
    plan = {
        "port": served.port,
        "clients": work.clients,
        "seconds": options.seconds,
        "requests": work.requests,
        "status": work.status,
    }
    path = folder / f"plan-{secrets.token_hex(4)}.json"
    path.write_text(json.dumps(plan), encoding="utf-8")
    command = [
        "taskset",
        "-c",
        ",".join(map(str, served.load_cores)),
        sys.executable,
        "-m",
        "benchmarks.load",
    ]
    environment = {**clean_environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
    before = served.cpu()
    # Twice the time and a minute: a server that does not answer does not hold up what comes after.
    run = subprocess.run(
        [*command, str(path)],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        timeout=2 * options.seconds + 60,
    )
    told = json.loads(run.stdout)
    return Seen(
        work=work.name,
        target=work.target,
        rate=told["count"] * work.each / told["seconds"],
        p99=told["p99"],
        cpu=(served.cpu() - before) / told["count"] / work.each,
        rss=served.rss(),
        wrong=told["wrong"],
    )


def shown(seen: Seen, base: Seen | None) -> Seen:
    """A line of the table; the ratio is to the processor time of the trivial application."""
    ratio = f"{seen.cpu / base.cpu:6.1f}" if base else f"{'1.0':>6}"
    target = f"{seen.target:,}" if seen.target else ""
    print(
        f"{seen.work:34} {target:>7} {seen.rate:8,.0f} {seen.p99 * 1000:7.1f} {seen.cpu * 1000:7.3f}"
        f" {ratio} {seen.rss / MEBIBYTE:5.0f}" + (f"  WRONG {seen.wrong}" if seen.wrong else ""),
        flush=True,
    )
    return seen


if __name__ == "__main__":
    main()
