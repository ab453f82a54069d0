"""Backing up and restoring under a server that is at work: B6 and R6."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from threading import Event
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa

from obms.databases import writing
from obms.schema import api_keys, credentials, issuers, users
from tests.backup.conftest import Backed, manifest_of
from tests.backup.test_making_faults import stuck_run
from tests.deployment import API_KEY, Deployment
from tests.real_faults import wait_until
from tests.serving import serving

WRITERS = 3
ALLOWED = {200, 201, 410, 503}


@contextmanager
def at_work(*tasks: Callable[[int], object]) -> Iterator[list[int]]:
    """Each task again and again in a thread of its own; how often each was done, so far."""
    over, done = Event(), [0] * len(tasks)

    def work(position: int) -> None:
        for number in count():
            if over.is_set():
                return
            tasks[position](number)
            done[position] += 1

    with ThreadPoolExecutor(len(tasks)) as pool:
        started = [pool.submit(work, position) for position in range(len(tasks))]
        try:
            wait_until(lambda: all(done) or any(one.done() for one in started), "the work")
            yield done
        finally:
            over.set()
        for one in started:
            one.result()


def add_pair(server: Deployment) -> None:
    """A user and a key of it, in one transaction: no moment has the one without the other."""
    with writing(server.database.engine) as connection:
        user = connection.execute(sa.select(users).limit(1)).mappings().one()
        key = connection.execute(sa.select(api_keys).limit(1)).mappings().one()
        name = str(uuid4())
        connection.execute(sa.insert(users), {**user, "id": name, "username": name, "email": name})
        connection.execute(sa.insert(api_keys), {**key, "id": name, "user_id": name, "hash": name})


def test_b6_a_backup_under_heavy_writes_is_of_one_moment(
    stocked: Deployment, record_property: Callable[[str, object], None]
) -> None:
    stalls: list[float] = []

    def write(_number: int) -> None:
        began = time.monotonic()
        add_pair(stocked)
        stalls.append(time.monotonic() - began)

    with at_work(*[write] * WRITERS) as done:
        before = sum(done)
        made = stocked.made_backup()
        wait_until(lambda: sum(done) > before, "a write during the backup")
    record_property("p99 of a write", sorted(stalls)[len(stalls) * 99 // 100])
    assert made["rows"]["users"] == made["rows"]["api_keys"] > 17
    assert manifest_of(stocked, made["id"]).rows["users"] == made["rows"]["users"]
    assert stocked.database.facts().rows["users"] > made["rows"]["users"]


def seconds_of(write: Callable[[], object]) -> float:
    began = time.monotonic()
    write()
    return time.monotonic() - began


def p99_of_writes(server: Deployment) -> float:
    """Of a hundred commits, each on disk, one after another."""
    return sorted(seconds_of(lambda: add_pair(server)) for _ in range(100))[98]


def test_b6_a_writer_hardly_waits_while_the_snapshot_is_read(stocked_sqlite: Deployment) -> None:
    """The backup stands still half-way, so that it holds what it holds for as long as this takes.

    Another process of this machine may hold up one round of writes, and what a backup locks holds up all.
    """
    alone = min(p99_of_writes(stocked_sqlite) for _ in range(2))
    with stuck_run(stocked_sqlite):
        rounds = (p99_of_writes(stocked_sqlite) for _ in range(5))
        assert any(p99 < max(0.05, 3 * alone) for p99 in rounds)


def rename_all(server: Deployment, name: str) -> None:
    with writing(server.database.engine) as connection:
        connection.execute(sa.update(issuers).values(name=name))


@pytest.mark.slow
def test_r6_a_server_that_is_at_work_is_restored_beneath_its_requests(backed: Backed) -> None:
    server, _ = backed
    rename_all(server, "later")
    with server.database.engine.connect() as connection:
        ids = connection.execute(sa.select(credentials.c.id)).scalars().all()
    answers: Counter[int] = Counter()
    mixtures: list[set[str]] = []
    headers = {"X-API-Key": API_KEY}
    with serving(server, workers=2) as address, ExitStack() as stack:
        # One for each thread: a pool of httpx that threads share may close a connection that another
        # of them was just given ("[Errno 9] Bad file descriptor").
        reader, lister, writer, last = (
            stack.enter_context(httpx.Client(base_url=address, headers=headers, timeout=60)) for _ in range(4)
        )

        def read(number: int) -> None:
            answers[reader.get(f"/credentials/{ids[number % len(ids)]}").status_code] += 1

        def read_together(_number: int) -> None:
            listed = lister.get("/issuers")
            answers[listed.status_code] += 1
            names = {issuer["name"] for issuer in listed.json()} if listed.status_code == 200 else set()
            if "later" in names and len(names) > 1:
                mixtures.append(names)

        def write(number: int) -> None:
            answers[writer.post(f"/credentials/{ids[number % 5]}/revoke").status_code] += 1

        with at_work(read, read_together, write) as done:
            first = server.obms("restore", "latest", "--yes", "--json")
            reached = list(done)
            wait_until(lambda: all(now > then for now, then in zip(done, reached, strict=True)), "requests")
            second = server.obms("restore", "--undo", "--yes", "--json")
            third = server.obms("restore", "latest", "--yes", "--json")
        assert last.get("/health").status_code == 200
    assert [answer.code for answer in (first, second, third)] == [0, 0, 0], first.err + second.err + third.err
    assert set(answers) <= ALLOWED, answers
    assert mixtures == []
    assert server.made_backup()["rows"]["revocations"] >= 5
