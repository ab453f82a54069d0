"""The killer and the judges of the sweep, judged: each must be able to say no."""

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from obms.databases import writing
from obms.schema import revocations
from tests.deployment import Deployment
from tests.faults.fork_server import ForkServer
from tests.faults.judges import Known, judge_backup, judge_restore
from tests.faults.killer import Mode, Shot
from tests.faults.scene import Scene, contents
from tests.faults.test_kill_sweep import BACKUP, RESTORE, changed, rehearse, with_a_backup


@pytest.fixture
def scene(sqlite: Deployment, forking: ForkServer) -> Scene:
    with_a_backup(sqlite, forking)
    return changed(sqlite)


@pytest.fixture
def known(scene: Scene, forking: ForkServer) -> Known:
    return rehearse(forking, scene, RESTORE)[0]


@pytest.fixture
def made(known: Known) -> Iterator[Deployment]:
    with known.scene.put_back() as made:
        yield made


@pytest.mark.parametrize(("mode", "size"), [(Mode.before, 0), (Mode.half, 1), (Mode.after, 2)])
def test_b4_the_killer_ends_a_write_before_it_half_way_and_after_it(
    forking: ForkServer, made: Deployment, mode: Mode, size: int
) -> None:
    ending = forking.run(BACKUP, made.environment, Shot(text=".gz.json.", number=2, mode=mode))
    assert (ending.status, ending.point.split()[0]) == (-9, "write")
    (partial,) = (data for name, data in contents(made.backup_dir).items() if ".gz.json." in name)
    assert [len(partial) == 0, partial[-2:] not in (b"", b"}\n"), partial[-2:] == b"}\n"].index(True) == size


def test_b4_a_command_that_is_not_killed_does_its_work(forking: ForkServer, made: Deployment) -> None:
    ending = forking.run(BACKUP, made.environment)
    assert (ending.status, ending.point) == (0, "")
    assert ending.json["proven"]


def test_b4_the_judge_sees_a_changed_backup(made: Deployment, known: Known) -> None:
    (image,) = (name for name in known.backups if name.endswith(".gz"))
    (made.backup_dir / image).write_bytes(known.backups[image] + b"\0")
    assert f"{image} was changed" in list(judge_backup(made, known))


def test_b4_the_judge_sees_an_image_that_nobody_cleans_up(made: Deployment, known: Known) -> None:
    (made.backup_dir / "sqlite_backup_2020-01-01_00-00-00.db.gz").touch()
    assert any("is orphan" in complaint for complaint in judge_backup(made, known))


def test_r4_the_judge_sees_a_mixture(made: Deployment, known: Known) -> None:
    with writing(made.database.engine) as connection:
        connection.execute(sa.update(revocations).values(reason="another"))
    assert any("neither the old one nor the new one" in complaint for complaint in judge_restore(made, known))


def test_r4_the_judge_sees_that_the_database_is_gone(made: Deployment, known: Known) -> None:
    (made.folder / "data" / "openbadges.db").unlink()
    assert "the live database is gone" in list(judge_restore(made, known))


def test_r4_the_judge_sees_that_the_way_back_is_lost(
    made: Deployment, known: Known, forking: ForkServer
) -> None:
    assert forking.run(RESTORE, made.environment).status == 0
    (made.backup_dir / "last_restore.json").unlink()
    assert any("does not know of the restore" in complaint for complaint in judge_restore(made, known))


def test_r4_the_judge_sees_that_a_damaged_database_was_lost(
    scene: Scene, known: Known, forking: ForkServer
) -> None:
    with replace(scene, damaged=True).put_back() as made:
        assert known.old is not None
        lost = replace(known, old=None, damaged=known.old)
        assert forking.run(RESTORE, made.environment).status == 0
        for path in (made.folder / "data").glob("*.set-aside-*"):
            path.unlink()
        assert any("is not whole" in complaint for complaint in judge_restore(made, lost))


def test_r4_a_damaged_database_is_set_aside_where_there_are_no_hard_links(
    scene: Scene, forking: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_name: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted", str(target))

    with scene.put_back() as whole:
        held = whole.database.facts()
    known, _ = rehearse(forking, replace(scene, damaged=True), RESTORE, damaged=held)
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with known.scene.put_back() as made:
        assert made.obms(*RESTORE).code == 0
        assert list(judge_restore(made, known)) == []
