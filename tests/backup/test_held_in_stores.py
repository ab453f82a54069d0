"""Whether a store holds a backup: not by its name alone, and not by what another server put there."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

import pytest

from obms.backup.manifest import MANIFEST_END, VERDICT_END, Manifest
from obms.backup.run import run as run_once
from obms.backup.signing import Signer
from obms.backup.storage import Folder
from obms.backup.stores import Options, Store, Stores, join_name
from obms.databases import Chunks
from tests.backup.conftest import Backed, manifest_of
from tests.backup.test_damage import flip
from tests.deployment import Answer, Deployment
from tests.s3_server import BUCKET, S3Server


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of a store."""
    return tmp_path / "copies"


def run(server: Deployment, place: Path) -> Answer:
    return server.obms("backup", "run", "--json", BACKUP_STORES=str(place))


def put_that_of_another(server: Deployment, file: str, place: Path) -> bytes:
    """The same image, as a server with another SECRET_KEY and the same content would have copied it."""
    shutil.copytree(server.backup_dir, place)
    manifest = Path(f"{place / file}{MANIFEST_END}")
    other = Manifest.from_bytes(file, manifest.read_bytes()).signed(Signer(bytes(32)))
    manifest.write_bytes(other.to_bytes())
    return other.to_bytes()


def test_k5_the_backup_of_another_server_is_not_taken_for_the_copy_of_ours(
    backed_sqlite: Backed, place: Path
) -> None:
    """K5: two share a prefix, and made a backup in the same second. It is told by each run."""
    server, made = backed_sqlite
    theirs = put_that_of_another(server, made["file"], place)
    for _ in range(2):
        answer = run(server, place)
        assert answer.code == 9
        assert f"another object {made['file']}" in answer.err
        assert "a prefix of its own" in answer.err
        assert answer.json["copies"][0]["copied"] == [answer.json["id"]]
        assert Path(f"{place / made['file']}{MANIFEST_END}").read_bytes() == theirs


def cut_both(image: Path) -> None:
    os.truncate(image, 5000)
    os.truncate(f"{image}{MANIFEST_END}", 100)


def cut_alone(image: Path, size: int = 5000, end: str = MANIFEST_END) -> None:
    os.truncate(image, size)
    Path(f"{image}{end}").unlink()


def add_to(image: Path) -> None:
    with image.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize(
    "damage",
    [
        lambda image: os.truncate(image, 5000),
        lambda image: os.truncate(image, 0),
        add_to,
        cut_both,
        cut_alone,
        lambda image: cut_alone(image, size=0),
        lambda image: cut_alone(image, end=VERDICT_END),
        Path.unlink,
        lambda image: Path(f"{image}{MANIFEST_END}").write_bytes(b"junk"),
        lambda image: os.truncate(f"{image}{MANIFEST_END}", 100),
    ],
    ids=[
        "an image cut off",
        "an empty image",
        "an image with something added",
        "both cut off",
        "an image cut off without manifest",
        "an empty image without manifest",
        "an image cut off without verdict",
        "a missing image",
        "a manifest that is junk",
        "a manifest cut off",
    ],
)
def test_k5_a_copy_that_was_damaged_in_the_store_is_made_anew(
    backed_sqlite: Backed, place: Path, damage: Callable[[Path], object]
) -> None:
    """K5: the size tells, without reading it."""
    server, made = backed_sqlite
    assert run(server, place).code == 0
    damage(place / made["file"])
    answer = run(server, place)
    assert answer.code == 0, answer.err
    assert set(answer.json["copies"][0]["copied"]) == {answer.json["id"], made["id"]}
    for end in ("", MANIFEST_END):
        name = f"{made['file']}{end}"
        assert (place / name).read_bytes() == (server.backup_dir / name).read_bytes()


def test_k5_an_image_cut_off_differently_is_that_of_another(backed_sqlite: Backed, place: Path) -> None:
    server, made = backed_sqlite
    assert run(server, place).code == 0
    cut_alone(place / made["file"])
    flip(place / made["file"], 4000)
    theirs = (place / made["file"]).read_bytes()
    answer = run(server, place)
    assert answer.code == 9
    assert f"another object {made['file']}" in answer.err
    assert (place / made["file"]).read_bytes() == theirs


@dataclass(slots=True)
class Counted(Folder):
    """A folder that notes what was read of it."""

    path: Path
    read: list[str] = field(default_factory=list)
    _held: Callable[[], bool] = bool

    def get(self, name: str) -> Chunks:
        self.read.append(name)
        return Folder.get(self, name)


def test_what_a_complete_store_holds_is_compared_without_reading_it(
    backed_sqlite: Backed, place: Path
) -> None:
    server, _ = backed_sqlite  # the oldest one is read, for the journal's sake
    before = run(server, place).json["id"]
    storage = Counted(place)
    store = Store(name=place.as_uri(), storage=storage, options=Options(scrub=0))
    stores = Stores(configured=(store,))
    done = run_once(replace(server.backups, stores=stores))
    assert done.copies[0].copied == (done.manifest.id,)
    assert storage.read
    assert not [name for name in storage.read if before in name]


@pytest.mark.parametrize("empty", [True, False])
def test_k5_a_folder_that_held_copies_and_is_not_mounted_is_not_made_anew(
    backed_sqlite: Backed, place: Path, *, empty: bool
) -> None:
    server, _ = backed_sqlite
    assert run(server, place).code == 0
    place.rename(place.with_name("unmounted"))
    if empty:
        place.mkdir()
    answer = run(server, place)
    assert answer.code == 9
    assert "Is it mounted?" in answer.err
    assert not place.exists() or list(place.iterdir()) == []
    assert server.obms("backup", "list", "--store", str(place), BACKUP_STORES=str(place)).code == 9
    place.mkdir(exist_ok=True)
    (place / "new").touch()
    assert len(run(server, place).json["copies"][0]["copied"]) == 4


def test_the_folder_of_the_backups_as_a_store_is_wrong_configuration(backed_sqlite: Backed) -> None:
    server, _ = backed_sqlite
    answer = run(server, server.backup_dir)
    assert answer.code == 2
    assert "is BACKUP_DIR itself" in answer.err


@pytest.mark.parametrize("damaged", [True, False])
def test_a_verdict_about_a_copy_is_told_where_it_cannot_be_kept(
    backed_sqlite: Backed, s3: S3Server, *, damaged: bool
) -> None:
    server, made = backed_sqlite
    server.environment |= s3.environment
    store = s3.url(f"{BUCKET}/{uuid4().hex}")
    assert server.obms("backup", "run", BACKUP_STORES=store).code == 0
    if damaged:
        image = server.backup_dir / made["file"]
        flip(image, 5000)
        server.backups.stores.at(store).storage.put(made["file"], iter((image.read_bytes(),)))
    answer = server.obms("backup", "verify", join_name(store, made["id"]), "--json", **s3.reading)
    assert answer.code == (5 if damaged else 0), answer.err
    assert answer.json["checks"][-1]["name"] == "kept"
    assert "could not be kept" in answer.json["checks"][-1]["detail"]
    assert answer.json["outcome"] == ("bad" if damaged else "good")
    assert manifest_of(server, made["id"]).file == made["file"]
