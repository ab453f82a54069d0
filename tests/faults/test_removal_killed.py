"""K8: `backup prune` is killed at every change it makes to the backup folder, and what is left is judged."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from obms.backup.retain import Policy
from obms.backup.run import run
from tests.deployment import Deployment
from tests.faults import shots
from tests.faults.fork_server import ForkServer
from tests.faults.judges import catalog
from tests.faults.killer import Mode, Shot
from tests.faults.scene import Scene, contents

PRUNE = ("backup", "prune", "--yes", "--json")
KEEPING = Policy(days=None)
SHOTS = 30  # of each run; all of them by OBMS_SWEEP=full


def backup_of(server: Deployment, days: int) -> str:
    """A proven backup of so many days ago."""
    moment = datetime.now(UTC) - timedelta(days=days)
    return run(replace(server.backups, policy=KEEPING, clock=lambda: moment)).manifest.id


def complaints(left: Deployment, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[str]:
    """Each that is listed as a backup is one, with its files as they were; the rest counts for nothing."""
    found = contents(left.backup_dir)
    if lost := [name for name in after if name.startswith("sqlite") and found.get(name) != before[name]]:
        yield f"lost: {lost}"
    for backup in catalog(left):
        files = [name for name in before if name.startswith(backup.id)]
        if backup.proven and any(found.get(name) != before[name] for name in files):
            yield f"{backup.id} is listed as proven, and is not whole"
        if not backup.proven and backup.state != "orphan":
            yield f"{backup.id} is {backup.state}: {backup.problem}"
        if backup.state == "orphan" and f".{backup.file}.removing" not in found:
            yield f"{backup.id} is left for ever"


def test_k8_a_removal_killed_at_any_point_leaves_the_truth(sqlite: Deployment, forking: ForkServer) -> None:
    sqlite.seed(6)
    old = [backup_of(sqlite, days) for days in (30, 20, 1)][:2]
    scene = Scene.of(sqlite)
    with scene.put_back() as made:
        before = contents(made.backup_dir)
        ending = forking.run(PRUNE, made.environment)
        assert ending.json["removed"] == old, ending.said
        after = contents(made.backup_dir)
    every = [Shot(number=number, mode=mode) for number in range(1, len(ending.points) + 1) for mode in Mode]
    chance = random.Random(shots.seed())  # noqa: S311 - not a secret
    chosen = every if shots.full() else chance.sample(every, SHOTS)
    killed, found = 0, []
    for shot in chosen:
        with scene.put_back() as made:
            shot_at = forking.run(PRUNE, made.environment, shot)
            killed += shot_at.status < 0
            found += [f"{shot} ({shot_at.point}): {text}" for text in complaints(made, before, after)]
            assert forking.run(PRUNE, made.environment).status == 0
            left = contents(made.backup_dir)
            if left.keys() != after.keys():
                found.append(
                    f"{shot} ({shot_at.point}): the next one leaves {sorted(left.keys() ^ after.keys())}"
                )
    assert found == []
    assert killed > len(chosen) / 2


@pytest.mark.parametrize("point", [".json", ".db.gz", ".proof.json"])
def test_k8_the_next_run_ends_a_removal_that_was_killed(
    sqlite: Deployment, forking: ForkServer, point: str
) -> None:
    sqlite.seed(6)
    old, _ = backup_of(sqlite, 30), backup_of(sqlite, 1)
    ending = forking.run(
        PRUNE, sqlite.environment, Shot(text=f"{old}.db.gz{point.removeprefix('.db.gz')}", number=1)
    )
    assert ending.status < 0
    answer = forking.run(("backup", "run", "--json"), sqlite.environment)
    assert answer.json["proven"]
    assert not [name for name in contents(sqlite.backup_dir) if old in name]
