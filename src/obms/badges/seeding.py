"""Seeding: as many realistic, really signed badges as are wanted, the same for the same seed."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import sqlalchemy as sa

from obms.badges import Site, statuses
from obms.badges.seeding_cast import OPENED, Cast, image_rows, key_rows, make_cast, profile_rows, user_rows
from obms.badges.seeding_rows import Rows, Writer, list_id, turn_of
from obms.domain import PURPOSES, ProofKind
from obms.errors import Conflict
from obms.schema import issuers, metadata, status_lists

# Credentials per transaction; each has three rows and more. A Data Integrity proof takes milliseconds.
BATCH: dict[ProofKind, int] = {"jwt": 2000, "data-integrity": 250}
# Starting processes takes longer than signing this many.
ALONE: dict[ProofKind, int] = {"jwt": 10_000, "data-integrity": 250}

_writer: Writer


def seed(
    engine: sa.Engine,
    site: Site,
    *,
    credentials: int,
    seed: int,
    proof: ProofKind,
    progress: Callable[[int], None],
) -> dict[str, int]:
    """Fill in the data of a seed; how many rows of each table. `progress` is told of each batch's size.

    Conflict if that seed is there already. The rows depend on the seed, BASE_URL and SECRET_KEY,
    and on nothing else. A run that was broken off leaves whole batches.
    """
    cast = make_cast(site, seed)
    engine = engine.execution_options(writing=True)
    counts = _add_cast(engine, site, cast)
    for rows in _stretches(cast, credentials, proof):
        with engine.begin() as connection:
            _insert(connection, rows, counts)
            _advance_lists(connection, cast, counts["credentials"])
        progress(len(rows["credentials"]))
    return counts


def _add_cast(engine: sa.Engine, site: Site, cast: Cast) -> dict[str, int]:
    counts = {"credentials": 0}
    with engine.begin() as connection:
        there = sa.select(issuers.c.id).where(issuers.c.id.in_([issuer.id for issuer in cast.issuers]))
        if connection.execute(there).first() is not None:
            raise Conflict(detail=f"The data of seed {cast.seed} is already there")
        rows = {
            "images": image_rows(cast),
            **profile_rows(cast),
            "signing_keys": key_rows(site, cast),
            **user_rows(site, cast),
            "status_lists": [],
        }
        opened = replace(site, clock=lambda: OPENED)
        for number, issuer in enumerate(cast.issuers):
            for purpose in PURPOSES:
                id = list_id(cast.seed, number, purpose, 0)
                rows["status_lists"].append(statuses.list_row(opened, issuer.id, purpose, id=id))
        _insert(connection, rows, counts)
    return counts


def _insert(connection: sa.Connection, rows: Rows, counts: dict[str, int]) -> None:
    """Insert the rows of each table; status lists that a batch is the first to reach come with it."""
    for name, found in rows.items():
        if found:
            connection.execute(sa.insert(metadata.tables[name]), found)
        counts[name] = counts.get(name, 0) + len(found)


def _advance_lists(connection: sa.Connection, cast: Cast, credentials: int) -> None:
    """Say of each list how many places were given; open the lists that the next batch may reach."""
    for number, issuer in enumerate(cast.issuers):
        given = _given(number, credentials)
        which, next_index = divmod(given, statuses.LIST_SIZE)
        for purpose in PURPOSES:
            if which > 0 and next_index < max(BATCH.values()):
                _close(connection, list_id(cast.seed, number, purpose, which - 1))
            connection.execute(
                sa.update(status_lists)
                .where(status_lists.c.id == list_id(cast.seed, number, purpose, which))
                .values(next_index=next_index)
            )


def _close(connection: sa.Connection, id: str) -> None:
    connection.execute(
        sa.update(status_lists).where(status_lists.c.id == id).values(next_index=status_lists.c.size)
    )


def _given(issuer: int, credentials: int) -> int:
    """How many of the first `credentials` are from an issuer."""
    number = credentials
    while True:
        found, nth = turn_of(number)
        if found == issuer:
            return nth
        number += 1


def _stretches(cast: Cast, credentials: int, proof: ProofKind) -> Iterator[Rows]:
    """The rows batch by batch, in order; made by as many processes as there are processors."""
    size = BATCH[proof]
    bounds = [(first, min(first + size, credentials)) for first in range(0, credentials, size)]
    if credentials <= ALONE[proof]:
        writer = Writer(cast, proof)
        yield from (writer.rows(*bound) for bound in bounds)
        return
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start, initargs=(cast, proof)
    ) as pool:
        waiting: deque[Future[Rows]] = deque()
        for bound in bounds:
            waiting.append(pool.submit(_make, *bound))
            # Only a few batches are ahead of the database, so that memory stays flat.
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _start(cast: Cast, proof: ProofKind) -> None:
    global _writer  # noqa: PLW0603 - the one thing a process of the pool keeps
    _writer = Writer(cast, proof)


def _make(first: int, last: int) -> dict[str, list[dict[str, Any]]]:
    return _writer.rows(first, last)
