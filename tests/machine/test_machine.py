"""The machine, on each kind of database: short in every run, as long as wanted by OBMS_MACHINE_STEPS."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from tests.deployment import Deployment
from tests.faults.fork_server import ForkServer
from tests.machine.play import draw, play, shortened
from tests.machine.world import World, begun
from tests.postgres import Server

EPISODE = 60


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_whatever_happens_no_backup_lies_and_nothing_promised_is_lost(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, forking: ForkServer
) -> None:
    server: Server | None = request.getfixturevalue("postgres") if kind == "postgresql" else None
    numbers = count()

    @contextmanager
    def begin() -> Iterator[World]:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        with Deployment.made(folder, server) as deployment, begun(deployment, forking) as world:
            yield world

    wanted = int(os.environ.get("OBMS_MACHINE_STEPS") or {"sqlite": 40, "postgresql": 14}[kind])
    seed = int(os.environ.get("OBMS_MACHINE_SEED") or datetime.now(UTC).date().toordinal())
    for first in range(0, wanted, EPISODE):
        history = draw(seed, min(EPISODE, wanted - first))
        played = play(history, begin)
        if os.environ.get("OBMS_MACHINE_LOG"):
            print(f"seed {seed}\n{played}")  # noqa: T201
        if played.complaints and os.environ.get("OBMS_MACHINE_SHRINK"):
            played = play(shortened(history, lambda steps: bool(play(steps, begin).complaints)), begin)
        again = f"OBMS_MACHINE_SEED={seed} OBMS_MACHINE_STEPS={len(played.lines)}"
        assert not played.complaints, f"{again} repeats it\n{played}"
        seed += 1
