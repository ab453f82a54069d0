"""B4 and R4: the process is killed at every write, sync, rename and statement, and what is left is judged.

OBMS_SWEEP=full shoots at every point, which takes minutes; else at those that decide, and at a sample of the
rest that is another one each day.
"""

import logging
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
import sqlalchemy as sa

from obms.badges import statuses
from obms.databases import Facts, writing
from obms.schema import credentials, revocations, user_roles
from tests.deployment import Deployment
from tests.faults import shots
from tests.faults.fork_server import ForkServer
from tests.faults.judges import Known, judge_backup, judge_restore
from tests.faults.killer import Shot
from tests.faults.scene import Scene, contents, in_use

BACKUP = ("backup", "run", "--json")
RESTORE = ("restore", "latest", "--yes", "--json")
LOG = logging.getLogger(__name__)
pytestmark = pytest.mark.slow
Judge = Callable[[Deployment, Known], Iterator[str]]


def with_a_backup(deployment: Deployment, forking: ForkServer) -> None:
    deployment.seed(12)
    assert forking.run(BACKUP, deployment.environment).json["proven"]


def changed(deployment: Deployment) -> Scene:
    """A badge is revoked after the backup, and something is lost that the backup has."""
    engine = deployment.database.engine
    with in_use(deployment):
        with writing(engine) as connection:
            held = sa.select(revocations.c.credential_id)
            query = sa.select(credentials.c.id).where(credentials.c.id.not_in(held)).limit(1)
            badge = connection.execute(query).scalar_one()
            statuses.revoke(connection, deployment.application.site, badge, "lost")
            connection.execute(sa.delete(user_roles))
        return Scene.of(deployment)


def sweep(known: Known, command: tuple[str, ...], chosen: Sequence[Shot], judge: Judge) -> None:
    """Kill the command at each of its points that is chosen, and judge what is left."""
    complaints: list[str] = []
    killed = 0
    for shot in chosen:
        with known.scene.put_back() as made:
            ending = known.forking.run(command, made.environment, shot)
            assert ending.status in (-signal.SIGKILL, 0), f"{shot}: {ending.said}"
            killed += ending.status != 0
            known.scene.wait_until_quiet()
            complaints += [f"{shot} ({ending.point.strip()}): {text}" for text in judge(made, known)]
    LOG.info("%d shots, %d killed, seed %d", len(chosen), killed, shots.seed())
    assert complaints == [], f"seed {shots.seed()}"
    # A thread or two more or fewer may leave the last points of a run without their shots.
    assert killed >= len(chosen) - max(1, len(chosen) // 10), "most shots did not hit"


def rehearse(
    forking: ForkServer, scene: Scene, command: tuple[str, ...], damaged: Facts | None = None
) -> tuple[Known, Sequence[str]]:
    """How things stand, what the command makes of them when nobody kills it, and its points."""
    with scene.put_back() as made:
        old = made.database.facts() if made.database.exists() else None
    with scene.put_back() as made:
        backups = contents(made.backup_dir)
        ending = forking.run(command, made.environment)
        assert ending.status == 0, ending.said
        new = made.database.facts()
    LOG.info("%s: %d points", " ".join(command), len(ending.points))
    known = Known(scene=scene, forking=forking, backups=backups, old=old, new=new, damaged=damaged)
    return known, ending.points


def test_b4_a_backup_killed_at_any_point_leaves_the_truth(
    deployment: Deployment, forking: ForkServer
) -> None:
    with_a_backup(deployment, forking)
    known, points = rehearse(forking, Scene.of(deployment), BACKUP)
    share = 0.3 if deployment.postgres is None else 0.03
    sweep(known, BACKUP, shots.choose(points, share=share, drawn=2), judge_backup)


def test_r4_a_restore_killed_at_any_point_leaves_the_old_or_the_new_database(
    deployment: Deployment, forking: ForkServer
) -> None:
    with_a_backup(deployment, forking)
    known, points = rehearse(forking, changed(deployment), RESTORE)
    assert known.old is not None
    assert known.old.rows["revocations"] == known.new.rows["revocations"] == 1
    assert known.old.rows["user_roles"] < known.new.rows["user_roles"]
    switch = "pwrite64 .*/data/openbadges.db-wal" if deployment.postgres is None else "send .*ALTER DATABASE"
    assert any(re.match(switch, point) for point in points)
    share = 0.6 if deployment.postgres is None else 0.06
    sweep(known, RESTORE, shots.choose(points, share=share, drawn=2), judge_restore)


def test_r4_a_restore_to_no_database_killed_at_any_point_can_be_tried_again(
    deployment: Deployment, forking: ForkServer
) -> None:
    with_a_backup(deployment, forking)
    deployment.database.engine.dispose()
    if deployment.postgres is None:
        (deployment.folder / "data" / "openbadges.db").unlink()
    scene = Scene.of(deployment, with_database=False)
    known, points = rehearse(forking, scene, RESTORE)
    share = 0.5 if deployment.postgres is None else 0.06
    sweep(known, RESTORE, shots.choose(points, share=share, drawn=2), judge_restore)


def test_r4_a_restore_over_a_damaged_database_killed_at_any_point_loses_nothing(
    sqlite: Deployment, forking: ForkServer
) -> None:
    with_a_backup(sqlite, forking)
    scene = replace(changed(sqlite), damaged=True)
    held = sqlite.database.facts()
    assert (scene.kept / "data" / "openbadges.db-wal").stat().st_size
    known, points = rehearse(forking, scene, RESTORE, damaged=held)
    assert known.old is None
    sweep(known, RESTORE, shots.choose(points, share=0.6, drawn=2), judge_restore)
