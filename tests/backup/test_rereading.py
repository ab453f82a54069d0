"""Old images are read again in turn: a bit that rots is found by the runs themselves (K6)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyrage
import pytest

from obms.app import open_hook
from obms.backup.catalog import read_catalog
from obms.backup.counters import last_reread
from obms.backup.manifest import MANIFEST_END, VERDICT_END
from obms.backup.rereading import reread
from obms.backup.run import Run, failure
from obms.backup.run import run as run_once
from obms.backup.signing import Signer
from obms.backup.storage import Folder
from obms.backup.stores import Store, Stores, open_store
from obms.databases import Chunks
from obms.errors import StorageFailed, StoreRefused, Unreadable
from obms.observe import Event
from tests.backup.conftest import Backed, Noted, found, manifest_of
from tests.backup.test_copies import locking_bucket
from tests.backup.test_damage import flip
from tests.deployment import Answer, Deployment
from tests.real_faults import bound_by_modes
from tests.s3_server import S3Server


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of a store."""
    return tmp_path / "copies"


def run(server: Deployment, place: Path | str) -> Answer:
    return server.obms("backup", "run", "--json", BACKUP_STORES=str(place))


def states(server: Deployment, place: Path) -> dict[str, str]:
    return {backup.id: backup.state for backup in read_catalog(Folder(place), server.backups.trusted)}


def forget_here(server: Deployment, file: str) -> None:
    for path in server.backup_dir.glob(f"{file}*"):
        path.unlink()


def test_a_copy_that_rots_in_a_store_is_told_once_and_made_anew(backed_sqlite: Backed, place: Path) -> None:
    server, _ = backed_sqlite
    made = run(server, place).json
    flip(place / made["file"], 5000)
    answer = run(server, place)
    assert answer.code == 9
    assert f"{made['file']} is damaged: read again in {place.as_uri()}" in answer.err
    assert "is sent anew" in answer.err
    assert set(answer.json["copies"][0]["copied"]) == {answer.json["id"], made["id"]}
    assert (place / made["file"]).read_bytes() == (server.backup_dir / made["file"]).read_bytes()
    assert set(states(server, place).values()) == {"proven"}
    assert run(server, place).code == 0


def test_a_copy_that_rots_where_there_is_no_other_is_told_once_and_counts_no_longer(
    backed_sqlite: Backed, place: Path
) -> None:
    server, made = backed_sqlite
    assert run(server, place).code == 0
    forget_here(server, made["file"])
    flip(place / made["file"], 5000)
    assert [run(server, place).code for _ in range(5)] == [0, 9, 0, 0, 0]
    assert states(server, place)[made["id"]] == "bad"


def test_a_copy_that_was_cut_where_there_is_no_other_is_told_once(backed_sqlite: Backed, place: Path) -> None:
    server, made = backed_sqlite
    assert run(server, place).code == 0
    forget_here(server, made["file"])
    (place / made["file"]).write_bytes(b"cut off")
    assert [run(server, place).code for _ in range(5)] == [0, 9, 0, 0, 0]
    assert states(server, place)[made["id"]] == "damaged"


def test_a_backup_that_rots_here_is_told_once_and_counts_no_longer(backed_sqlite: Backed) -> None:
    server, made = backed_sqlite
    flip(server.backup_dir / made["file"], 5000)
    answer = run(server, "")
    assert answer.code == 5
    assert f"{made['file']} is damaged: read again here" in answer.err
    assert answer.json["proven"]
    assert found(server, made["id"]).state == "bad"
    assert [run(server, "").code for _ in range(2)] == [0, 0]


def test_an_encrypted_one_is_read_again_without_a_private_key(sqlite: Deployment) -> None:
    sqlite.environment["BACKUP_AGE_RECIPIENTS"] = str(pyrage.x25519.Identity.generate().to_public())
    first = sqlite.made_backup()
    assert run(sqlite, "").code == 0
    flip(sqlite.backup_dir / first["file"], 500)
    assert [run(sqlite, "").code for _ in range(4)] == [0, 5, 0, 0]
    assert found(sqlite, first["id"]).state == "bad"


def test_an_image_that_cannot_be_read_is_told_and_not_judged(backed_sqlite: Backed, noted: Noted) -> None:
    server, made = backed_sqlite
    backups = replace(server.backups, notify=noted)
    (server.backup_dir / made["file"]).chmod(0)
    with bound_by_modes():
        assert isinstance(reread(backups, set()), Unreadable)
    (event,) = noted.named("backup.reread")
    assert (event.ok, event.facts["file"]) == (False, made["file"])
    assert found(server, made["id"]).state == "proven"


@pytest.mark.parametrize(
    "told", ['{"backup folder": {"reread": "junk"}}', '{"backup folder": {"reread": 5}}', "x"]
)
def test_counters_that_tell_no_turn_stop_no_reading(backed_sqlite: Backed, noted: Noted, told: str) -> None:
    server, made = backed_sqlite
    (server.backup_dir / "counters.json").write_text(told)
    assert reread(replace(server.backups, notify=noted), set()) is None
    assert noted.named("backup.reread")[0].facts["file"] == made["file"]


@dataclass(slots=True)
class Watched(Folder):
    """A folder that notes the images that are read of it; the first reading of each `doubtful` one errs."""

    path: Path
    read: list[str] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)
    _held: Callable[[], bool] = bool

    def get(self, name: str) -> Chunks:
        if name.endswith(".gz"):
            self.read.append(name)
        chunks = Folder.get(self, name)
        if name in self.doubtful:
            self.doubtful.remove(name)
            return (bytes(len(chunk)) for chunk in chunks)
        return chunks


@dataclass(slots=True)
class Failing(Watched):
    """A folder that cannot be read at all after a doubtful reading."""

    def get(self, name: str) -> Chunks:
        if name in self.read:
            raise StorageFailed(detail="the disk is gone")
        return Watched.get(self, name)


def run_with(server: Deployment, storage: Folder, place: Path) -> Run:
    stores = Stores(configured=(Store(name=place.as_uri(), storage=storage),))
    hook = open_hook(server.settings, logged=False)
    return run_once(replace(server.backups, stores=stores, notify=hook))


def test_every_copy_is_read_again_in_turn_and_what_was_just_sent_is_not(
    backed_sqlite: Backed, place: Path
) -> None:
    server, made = backed_sqlite
    files, read = [made["file"]], []
    for _ in range(7):
        storage = Watched(place)
        sent = run_with(server, storage, place).manifest.file
        read.append([files.index(name) for name in storage.read if name in files])
        files.append(sent)
    # Number 0 is sent by the first run. Where nothing is older, it begins anew at the newest.
    assert read == [[0], [1], [0], [3], [2], [1], [0]]


def test_a_copy_is_read_twice_before_it_is_called_bad(backed_sqlite: Backed, place: Path) -> None:
    server, _ = backed_sqlite
    made = run_with(server, Folder(place), place).manifest
    storage = Watched(place, doubtful={made.file})
    assert failure(run_with(server, storage, place)) is None
    assert storage.read.count(made.file) == 2
    assert states(server, place)[made.id] == "proven"


def test_a_copy_that_cannot_be_read_twice_is_told_and_sent_again(backed_sqlite: Backed, place: Path) -> None:
    server, _ = backed_sqlite
    made = run_with(server, Folder(place), place).manifest
    failed = failure(run_with(server, Failing(place, doubtful={made.file}), place))
    assert failed is not None
    assert "could not be read again" in str(failed)
    assert failure(run_with(server, Folder(place), place)) is None
    assert states(server, place)[made.id] == "proven"


def test_the_turn_of_one_that_takes_too_long_is_over_all_the_same(
    backed_sqlite: Backed, noted: Noted, place: Path
) -> None:
    server, made = backed_sqlite
    counted = open_hook(server.settings, logged=False)
    storage = Watched(place, doubtful={made["file"]})
    run_with(server, storage, place)

    def end(event: Event) -> None:
        counted(event)
        if event.name == "backup.rereading":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reread(replace(server.backups, notify=end), set(), Store(name=place.as_uri(), storage=storage))
    told = last_reread(server.backup_dir, place.as_uri())
    reread(replace(server.backups, notify=noted), set(), Store(name=place.as_uri(), storage=storage))
    assert told is not None
    assert noted.named("backup.rereading")[0].facts["file"] != told


def test_b11_the_journal_goes_to_a_store_before_the_images(
    backed_sqlite: Backed, noted: Noted, place: Path
) -> None:
    server, _ = backed_sqlite
    stores = Stores(configured=(Store(name=place.as_uri(), storage=Folder(place)),))
    run_once(replace(server.backups, stores=stores, notify=noted))
    names = [event.name for event in noted.events]
    assert names.index("journal.shipped") < names.index("backup.copied")


def test_a_store_may_say_that_no_copy_is_read_again(backed_sqlite: Backed, place: Path) -> None:
    server, made = backed_sqlite
    assert run(server, f"{place.as_uri()}?scrub=0").code == 0
    flip(place / made["file"], 5000)
    assert run(server, f"{place.as_uri()}?scrub=0").code == 0
    assert run(server, f"{place.as_uri()}?scrub=9").code == 9


def test_the_rate_limit_is_kept_while_a_copy_is_read_again(backed_sqlite: Backed, place: Path) -> None:
    server, made = backed_sqlite
    assert run(server, place).code == 0
    answer = run(server, f"{place.as_uri()}?rate_limit=50k")
    assert answer.json["copies"][0]["seconds"] > (2 * answer.json["bytes"] + made["bytes"]) / 50_000


def test_the_copy_of_another_server_is_not_judged(backed_sqlite: Backed, place: Path) -> None:
    server, made = backed_sqlite
    assert run(server, place).code == 0
    id, file = "sqlite_backup_2020-01-01_00-00-00", "sqlite_backup_2020-01-01_00-00-00.db.gz"
    theirs = replace(manifest_of(server, made["id"]), id=id, file=file).signed(Signer(bytes(32)))
    (place / (file + MANIFEST_END)).write_bytes(theirs.to_bytes())
    (place / file).write_bytes(bytes(theirs.bytes))
    assert [run(server, place).code for _ in range(5)] == [0] * 5
    assert not (place / (file + VERDICT_END)).exists()


class Unchanging(Folder):
    """A place that lets nobody replace what it holds."""

    def put(self, name: str, chunks: Chunks, **asked: Any) -> None:
        if (self.path / name).exists():
            raise StoreRefused(store=self.path, detail="it is immutable")
        super().put(name, chunks, **asked)


def test_a_store_that_lets_nothing_be_replaced_is_told_so(backed_sqlite: Backed, place: Path) -> None:
    server, _ = backed_sqlite
    made = run_with(server, Folder(place), place).manifest
    flip(place / made.file, 5000)
    (copy,) = run_with(server, Unchanging(place), place).copies
    assert "could not be kept" in str(copy.error)
    assert "it is immutable" in str(copy.error)
    assert "lets nobody replace it" in str(copy.hint)
    assert failure(run_with(server, Unchanging(place), place)) is None  # it is not its turn again


def test_a_copy_that_rots_under_a_lock_is_made_anew_beside_the_locked_one(
    backed_sqlite: Backed, s3: S3Server
) -> None:
    server, _ = backed_sqlite
    server.environment |= s3.environment
    url = s3.url(locking_bucket(s3), "lock_days=1")
    made = run(server, url).json
    image = server.backup_dir / made["file"]
    whole = image.read_bytes()
    storage = open_store(url, s3.credentials).storage
    storage.put(made["file"], iter((whole[:5000] + bytes((whole[5000] ^ 1,)) + whole[5001:],)))
    answer = run(server, url)
    assert answer.code == 9
    assert made["id"] in answer.json["copies"][0]["copied"]
    assert b"".join(storage.get(made["file"])) == whole
    assert run(server, url).code == 0


def test_a_copy_that_was_judged_bad_is_made_anew(backed_sqlite: Backed, place: Path) -> None:
    """Where `obms backup verify --store` found it, or a run was killed after it had."""
    server, made = backed_sqlite
    assert run(server, f"{place.as_uri()}?scrub=0").code == 0
    flip(place / made["file"], 5000)
    assert server.obms("backup", "verify", made["id"], "--store", str(place)).code == 5
    assert states(server, place)[made["id"]] == "bad"
    answer = run(server, f"{place.as_uri()}?scrub=0")
    assert answer.code == 0, answer.err
    assert made["id"] in answer.json["copies"][0]["copied"]
    assert states(server, place)[made["id"]] == "proven"
