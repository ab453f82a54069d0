"""One suite for every storage: whole objects or nothing, and every failure said."""

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path, PosixPath
from uuid import uuid4

import pytest

from obms.backup.storage import Folder, Storage
from obms.backup.stores import open_store
from obms.errors import AlreadyThere, BackupDamaged, BackupNotFound, StorageFailed
from tests.clouds import Cloud
from tests.real_faults import fill_disk, small_disk
from tests.s3_server import BUCKET, S3Server

LARGE = 12_000_000  # bytes: three parts of an upload


@pytest.fixture(params=["folder", "s3", "google", "azure"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return Folder(tmp_path / "kept")
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        return open_store(server.url(f"{BUCKET}/{uuid4().hex}"), server.credentials).storage
    cloud: Cloud = request.getfixturevalue(request.param)
    return open_store(cloud.url(uuid4().hex), cloud.credentials).storage


def read(storage: Storage, name: str) -> bytes:
    return b"".join(storage.get(name))


def put(storage: Storage, name: str, data: bytes) -> None:
    storage.put(name, iter((data,)))


@pytest.mark.parametrize("chunks", [(), (b"",), (b"one",), (b"one", b"", b"two"), (bytes(6_000_000),) * 2])
def test_what_is_put_is_got(storage: Storage, chunks: tuple[bytes, ...]) -> None:
    storage.put("name", iter(chunks))
    assert read(storage, "name") == b"".join(chunks)


@pytest.mark.parametrize("size", [5000, LARGE])
def test_what_is_put_goes_no_faster_than_it_may(storage: Storage, size: int) -> None:
    started = time.monotonic()
    storage.put("name", iter((bytes(size),)), rate=4 * size)
    assert time.monotonic() - started > 0.2
    assert storage.size("name") == size


def test_a_second_put_replaces_the_whole_object(storage: Storage) -> None:
    put(storage, "name", b"the first, and longer")
    put(storage, "name", b"the second")
    assert read(storage, "name") == b"the second"


@pytest.mark.parametrize("size", [5, LARGE])
def test_what_is_there_is_not_replaced_against_the_will(storage: Storage, size: int) -> None:
    storage.put("name", iter((b"older",)), replace=False)
    with pytest.raises(AlreadyThere, match="name"):
        storage.put("name", iter((bytes(size),)), replace=False)
    assert read(storage, "name") == b"older"
    assert list(storage.names()) == ["name"]


@pytest.mark.parametrize("size", [0, 5, LARGE])
def test_a_size_is_that_of_the_whole_object(storage: Storage, size: int) -> None:
    put(storage, "name", bytes(size))
    assert storage.size("name") == size
    assert storage.sizes() == {"name": size}
    with pytest.raises(BackupNotFound, match="'other'"):
        storage.size("other")


def test_an_object_may_come_from_the_storage_it_goes_to(storage: Storage) -> None:
    data = os.urandom(LARGE)
    put(storage, "name", data)
    storage.put("copy", storage.get("name"))
    assert read(storage, "copy") == data


def test_names_are_sorted_and_chosen_by_their_start(storage: Storage) -> None:
    for name in ("b2", "a", "b1", "c"):
        put(storage, name, b"x")
    assert list(storage.names()) == ["a", "b1", "b2", "c"]
    assert list(storage.names("b")) == ["b1", "b2"]
    assert list(storage.names("z")) == []


def test_sizes_are_those_of_the_whole_objects(storage: Storage) -> None:
    for name, data in (("a", b""), ("b", b"twelve bytes")):
        put(storage, name, data)
    assert storage.sizes() == {"a": 0, "b": 12}


def test_a_storage_that_nothing_was_put_into_is_empty(storage: Storage) -> None:
    assert list(storage.names()) == []
    assert storage.sizes() == {}


def test_an_object_that_is_not_there_is_not_found(storage: Storage) -> None:
    put(storage, "other", b"x")
    with pytest.raises(BackupNotFound, match="'name'"):
        read(storage, "name")


def test_removing_twice_is_removing_once(storage: Storage) -> None:
    put(storage, "name", b"x")
    storage.remove("name")
    storage.remove("name")
    assert list(storage.names()) == []


@pytest.mark.parametrize("size", [5, LARGE])
def test_a_put_that_breaks_off_leaves_nothing(storage: Storage, size: int) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(size)
        raise BackupDamaged(name="x", detail="broken")

    with pytest.raises(BackupDamaged):
        storage.put("name", broken())
    assert list(storage.names()) == []


@pytest.mark.parametrize("size", [5, LARGE])
def test_a_put_that_breaks_off_leaves_the_older_object(storage: Storage, size: int) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(size)
        raise KeyboardInterrupt

    put(storage, "name", b"older")
    with pytest.raises(KeyboardInterrupt):
        storage.put("name", broken())
    assert read(storage, "name") == b"older"


@pytest.mark.parametrize("size", [5, LARGE])
def test_what_is_being_put_has_no_name_yet(storage: Storage, size: int) -> None:
    seen: list[list[str]] = []

    def watching() -> Iterator[bytes]:
        yield bytes(size)
        seen.append(list(storage.names()))
        yield b"whole"

    storage.put("name", watching())
    assert seen == [[]]
    assert list(storage.names()) == ["name"]


def test_a_broken_put_leaves_no_file_in_the_folder(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise BackupDamaged(name="x", detail="broken")

    with pytest.raises(BackupDamaged):
        Folder(tmp_path).put("name", broken())
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_put_left_is_no_object_and_is_swept(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    put(folder, "name", b"x")
    (tmp_path / ".name.0123abcd.partial").write_bytes(b"half")
    (tmp_path / "a folder").mkdir()
    assert list(folder.names()) == ["name"]
    folder.sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a folder", "name"]


def test_what_is_not_there_yet_has_nothing_to_sweep(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "copies")
    folder.sweep()
    assert not folder.path.exists()


def test_what_a_killed_put_of_another_left_is_not_swept(tmp_path: Path) -> None:
    for name in ("theirs", "ours"):
        (tmp_path / f".{name}.0123abcd.partial").write_bytes(b"half")
    Folder(tmp_path).sweep(lambda name: name == "ours")
    assert [path.name for path in tmp_path.iterdir()] == [".theirs.0123abcd.partial"]


def test_a_full_disk_is_said_and_what_was_there_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 256) as mounted:
        if not mounted:
            pytest.skip("only root can mount a small disk")
        folder = Folder(tmp_path / "disk")
        put(folder, "older", b"older" * 100)
        fill_disk(tmp_path / "disk", leave=64 * 1024)
        with pytest.raises(StorageFailed, match="No space left on device"):
            put(folder, "newer", bytes(100_000))
        assert list(folder.names()) == ["ballast", "older"]
        assert read(folder, "older") == b"older" * 100
        assert not list((tmp_path / "disk").glob(".*"))


def test_a_folder_that_is_none_is_said_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    folder = Folder(tmp_path / "file" / "below")
    with pytest.raises(StorageFailed, match="file/below: Not a directory"):
        put(folder, "name", b"x")
    with pytest.raises(StorageFailed, match="file/below/name: Not a directory"):
        read(folder, "name")
    with pytest.raises(StorageFailed, match="file/below/name: Not a directory"):
        folder.remove("name")
    with pytest.raises(StorageFailed, match="File name too long"):
        list(Folder(tmp_path / ("x" * 300)).names())


class LinklessPath(PosixPath):
    """A path on a disk that knows no links, such as FAT."""

    def hardlink_to(self, _target: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(self))


def test_b9_where_a_disk_knows_no_links_nothing_is_replaced_either(tmp_path: Path) -> None:
    folder = Folder(LinklessPath(tmp_path))
    folder.put("name", iter((b"older",)), replace=False)
    with pytest.raises(AlreadyThere, match="name"):
        folder.put("name", iter((b"newer",)), replace=False)
    assert read(folder, "name") == b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["name"]
