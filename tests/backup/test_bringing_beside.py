"""Two servers with the same SECRET_KEY and one store encrypt anew at once: no backup loses its last form."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import pytest

from obms.backup import Backups
from obms.backup.bringing import rekey_in_store
from obms.backup.catalog import find
from obms.backup.copies import Copy, copy_to_stores
from obms.backup.manifest import MANIFEST_END
from obms.backup.rekey import rekey
from obms.backup.rereading import is_whole
from obms.backup.storage import Folder
from obms.backup.stores import Store, Stores, open_store
from obms.databases import Chunks
from tests.backup.away import Away, away, stored
from tests.backup.test_bringing_faults import require_whole_there
from tests.backup.test_rekey import Killed, MortalFolder
from tests.s3_server import BUCKET, S3Server

__all__ = ["away", "stored"]


class Meanwhile(Folder):
    """A store in which another server does all of its work at the step of this number."""

    def __init__(self, path: Path, step: int, work: Callable[[], object]) -> None:
        super().__init__(path)
        self._left, self._work = step, work

    @property
    def reached(self) -> bool:
        return self._left <= 0

    def _step(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._work()

    def put(self, name: str, *rest: Any, **asked: Any) -> None:
        self._step()
        super().put(name, *rest, **asked)
        self._step()

    def remove(self, name: str) -> None:
        self._step()
        super().remove(name)

    def get(self, name: str) -> Chunks:
        self._step()
        return super().get(name)

    def sizes(self) -> Any:
        self._step()
        return super().sizes()


@pytest.fixture
def beside(away: Away, tmp_path: Path) -> Backups:
    """A second server with the same SECRET_KEY, and a folder of its own."""
    folder = tmp_path / "beside"
    backups = away.backups
    return replace(backups, folder=folder, storage=Folder(folder), work=folder / ".work")


@pytest.mark.parametrize("deaths", [(None,), (3, 6, 9)], ids=["both live", "the other dies"])
def test_k5_two_servers_that_do_it_at_once_lose_nothing(
    away: Away, beside: Backups, deaths: tuple[int | None, ...]
) -> None:
    """K5, K8: at any step of the one comes the other's whole work, or what it does before it dies."""
    for step in itertools.count(1):
        dies_at = deaths[step % len(deaths)]

        def work(dies_at: int | None = dies_at) -> None:
            place = MortalFolder(away.place, dies_at, after=True) if dies_at else None
            with suppress(Killed):
                rekey_in_store(beside, away.store(place), [], **away.change)

        store = Meanwhile(away.place, step, work)
        rekey_in_store(away.backups, away.store(store), [], **away.change)
        require_whole_there(away)
        if not store.reached:
            break
        for backups in (away.backups, beside):
            again = rekey_in_store(backups, away.store(), [], **away.change)
            # Where both have a new form of one name, and one died, it is the other's that is told of.
            assert dies_at or not [one.error for one in again if one.error], step
        forms = away.forms()
        assert all(form.pin for form in forms if form.id == away.only_there), step
        assert not any(away.opens(Folder(away.place), form, "escrow") for form in forms), step
        away.put_back()
        shutil.rmtree(beside.folder)
    assert step > 40


class Shared(Folder):
    """A store that calls when its names were listed, and before something is put."""

    listed: Callable[[set[str]], object] = staticmethod(lambda _names: None)
    to_put: Callable[[str], object] = staticmethod(lambda _name: None)

    def names(self, prefix: str = "") -> Iterator[str]:
        found = list(super().names(prefix))
        self.listed(set(found))
        return iter(found)

    def put(self, name: str, *rest: Any, **asked: Any) -> None:
        self.to_put(name)
        super().put(name, *rest, **asked)


def test_k5_an_image_that_another_server_commits_meanwhile_is_not_written_over(
    away: Away, beside: Backups, tmp_path: Path
) -> None:
    """K5: the other one has looked between its image and its manifest, and sends its own after that."""
    shutil.copytree(away.server.backup_dir, beside.folder)
    for backups in (away.backups, beside):
        rekey(backups, [away.here], **away.change)
    file = find(beside.storage, away.here, beside.trusted).file
    place = tmp_path / "shared"
    mine, theirs = Shared(place), Shared(place)
    half, looked, committed = Event(), Event(), Event()

    def to_commit(name: str) -> None:
        if name == file + MANIFEST_END:
            half.set()
            assert looked.wait(30)

    def look(names: set[str]) -> None:
        if file in names and file + MANIFEST_END not in names:
            looked.set()
            assert committed.wait(30)

    mine.to_put, theirs.listed = to_commit, look

    def sent(backups: Backups, storage: Folder) -> Copy:
        store = replace(away.store(storage), name=place.as_uri())
        (copy,) = copy_to_stores(replace(backups, stores=Stores(configured=(store,))))
        return copy

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(sent, away.backups, mine)
        assert half.wait(30)
        second = pool.submit(sent, beside, theirs)
        assert first.result().error is None
        committed.set()
        assert "holds another object" in str(second.result().error)
    form = find(Folder(place), away.here, beside.trusted)
    assert form.manifest is not None
    assert is_whole(Folder(place), form.manifest, None)
    assert sent(away.backups, Folder(place)).error is None


def test_k5_so_do_two_at_the_same_time_in_an_object_store(away: Away, beside: Backups, s3: S3Server) -> None:
    for _ in range(3):
        url = s3.url(f"{BUCKET}/{uuid4().hex}")
        storage = open_store(url, s3.credentials).storage
        for path in (away.server.folder / "good copies").iterdir():
            storage.put(path.name, iter((path.read_bytes(),)))
        stores: list[Store] = [open_store(url, s3.credentials) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            done = [
                pool.submit(rekey_in_store, backups, store, [], **away.change)
                for backups, store in zip((away.backups, beside), stores, strict=True)
            ]
        assert all(one.result() for one in done)
        require_whole_there(away, storage=storage)
        for backups, store in zip((away.backups, beside), stores, strict=True):
            assert not [one.error for one in rekey_in_store(backups, store, [], **away.change) if one.error]
        assert not any(away.opens(storage, form, "escrow") for form in away.forms(storage))
        away.put_back()
