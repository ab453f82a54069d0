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
from obms.badges.seeding_company import company_rows, with_company
from obms.badges.seeding_rows import Rows, Writer, given, list_id
from obms.domain import PURPOSES, ProofKind
from obms.errors import Conflict
from obms.schema import issuers, metadata, status_lists

# Credentials per transaction; each has three rows and more. A Data Integrity proof takes milliseconds.
BATCH: dict[ProofKind, int] = {"jwt": 2500, "data-integrity": 250}
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
    cast = with_company(make_cast(site, seed))
    engine = engine.execution_options(writing=True)
    counts = _add_cast(engine, site, cast)
    for rows in _stretches(cast, credentials, proof):
        done = counts["credentials"]
        with engine.begin() as connection:
            lists = _advance_lists(connection, site, cast, done, done + len(rows["credentials"]))
            _insert(connection, {"status_lists": lists, **rows}, counts)
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
            **company_rows(cast),
            "signing_keys": key_rows(site, cast),
            **user_rows(site, cast),
            "status_lists": _list_rows(site, cast, [(issuer, 0) for issuer in range(len(cast.issuers))]),
        }
        _insert(connection, rows, counts)
    return counts


def _insert(connection: sa.Connection, rows: Rows, counts: dict[str, int]) -> None:
    for name, found in rows.items():
        if found:
            connection.execute(sa.insert(metadata.tables[name]), found)
        counts[name] = counts.get(name, 0) + len(found)


def _list_rows(site: Site, cast: Cast, lists: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """The rows of the n-th lists of issuers, one per purpose."""
    opened = replace(site, clock=lambda: OPENED)
    return [
        statuses.list_row(
            opened, cast.issuers[issuer].id, purpose, id=list_id(cast.seed, issuer, purpose, nth)
        )
        for issuer, nth in lists
        for purpose in PURPOSES
    ]


def _advance_lists(
    connection: sa.Connection, site: Site, cast: Cast, done: int, wanted: int
) -> list[dict[str, Any]]:
    """Say of each list how many places were given; the rows of the lists that have to be opened."""
    fresh = []
    for issuer in range(len(cast.issuers)):
        before, after = given(issuer, done), given(issuer, wanted)
        for nth in range(
            max(before - 1, 0) // statuses.LIST_SIZE, max(after - 1, 0) // statuses.LIST_SIZE + 1
        ):
            next_index = min(after - nth * statuses.LIST_SIZE, statuses.LIST_SIZE)
            ids = [list_id(cast.seed, issuer, purpose, nth) for purpose in PURPOSES]
            update = sa.update(status_lists).where(status_lists.c.id.in_(ids))
            if connection.execute(update.values(next_index=next_index)).rowcount == 0:
                rows = _list_rows(site, cast, [(issuer, nth)])
                fresh += [row | {"next_index": next_index} for row in rows]
    return fresh


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
