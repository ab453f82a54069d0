"""K6: damage of every kind, at every section of image and manifest; `obms backup verify` finds each one."""

import gzip
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from obms.backup.manifest import MANIFEST_END, VERDICT_END, Manifest
from tests.backup.conftest import found
from tests.deployment import Deployment
from tests.postgres import Server

HEADER, TRAILER = 10, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """A backup folder that may be damaged, with two backups: `id` the one to damage, `other` the older."""

    server: Deployment
    id: str
    other: str

    @property
    def image(self) -> Path:
        return self.server.backup_dir / found(self.server, self.id).file

    @property
    def other_image(self) -> Path:
        return self.server.backup_dir / found(self.server, self.other).file

    @property
    def manifest(self) -> Path:
        return Path(f"{self.image}{MANIFEST_END}")

    def read_manifest(self) -> Manifest:
        return Manifest.from_bytes("m", self.manifest.read_bytes())


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: Server
) -> Iterator[Shelf]:
    """Two proven backups of different content; each test puts the files back as they were."""
    folder = tmp_path_factory.mktemp("damage")
    with Deployment.made(folder, postgres if request.param == "postgresql" else None) as server:
        server.seed(number=1)
        older = server.made_backup()
        server.seed(number=2)
        newer = server.made_backup()
        shutil.copytree(server.backup_dir, folder / "good")
        yield Shelf(server=server, id=newer["id"], other=older["id"])


@pytest.fixture
def shelf(made: Shelf) -> Iterator[Shelf]:
    yield made
    shutil.rmtree(made.server.backup_dir)
    shutil.copytree(made.server.folder / "good", made.server.backup_dir)


Damage = Callable[[Shelf], object]


def members(image: Path) -> list[tuple[int, int]]:
    """Where each gzip member of an image starts and ends."""
    data, start, found = image.read_bytes(), 0, []
    while start < len(data):
        packer = zlib.decompressobj(31)
        packer.decompress(data[start:])
        end = len(data) - len(packer.unused_data)
        found.append((start, end))
        start = end
    return found


def flip(path: Path, place: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def flip_at(share: float, shelf: Shelf) -> None:
    flip(shelf.image, int((shelf.image.stat().st_size - 1) * share))


def flip_in_header(place: int, shelf: Shelf) -> None:
    flip(shelf.image, members(shelf.image)[-1][0] + place, 3)


def flip_in_data(shelf: Shelf) -> None:
    start, end = members(shelf.image)[-1]
    flip(shelf.image, (start + HEADER + end - TRAILER) // 2)


def flip_in_trailer(place: int, shelf: Shelf) -> None:
    flip(shelf.image, members(shelf.image)[-1][1] - TRAILER + place)


def cut(keep: float, shelf: Shelf) -> None:
    os.truncate(shelf.image, int(shelf.image.stat().st_size * keep))


def cut_bytes(count: int, shelf: Shelf) -> None:
    os.truncate(shelf.image, shelf.image.stat().st_size - count)


def append(data: bytes, shelf: Shelf) -> None:
    with shelf.image.open("ab") as file:
        file.write(data)


def lose_start(shelf: Shelf) -> None:
    shelf.image.write_bytes(shelf.image.read_bytes()[1:])


def swap_halves(shelf: Shelf) -> None:
    data = shelf.image.read_bytes()
    shelf.image.write_bytes(data[len(data) // 2 :] + data[: len(data) // 2])


def zero(start: float, end: float, shelf: Shelf) -> None:
    data = bytearray(shelf.image.read_bytes())
    first, last = int(len(data) * start), int(len(data) * end)
    data[first:last] = bytes(last - first)
    shelf.image.write_bytes(data)


def overwrite(data: bytes, shelf: Shelf) -> None:
    shelf.image.write_bytes(data)


def unpack(shelf: Shelf) -> None:
    shelf.image.write_bytes(gzip.decompress(shelf.image.read_bytes()))


def pack_again(shelf: Shelf) -> None:
    """The content is right, and the file is not the one that was published."""
    shelf.image.write_bytes(gzip.compress(gzip.decompress(shelf.image.read_bytes()), 1))


def double(shelf: Shelf) -> None:
    shelf.image.write_bytes(shelf.image.read_bytes() * 2)


def take_image_of_other(shelf: Shelf) -> None:
    shutil.copy(shelf.other_image, shelf.image)


def swap_images(shelf: Shelf) -> None:
    kept = shelf.image.read_bytes()
    shutil.copy(shelf.other_image, shelf.image)
    shelf.other_image.write_bytes(kept)


def take_manifest_of_other(shelf: Shelf) -> None:
    shutil.copy(f"{shelf.other_image}{MANIFEST_END}", shelf.manifest)


def swap_manifests(shelf: Shelf) -> None:
    other = Path(f"{shelf.other_image}{MANIFEST_END}")
    kept = shelf.manifest.read_bytes()
    shutil.copy(other, shelf.manifest)
    other.write_bytes(kept)


def remove_image(shelf: Shelf) -> None:
    shelf.image.unlink()


def remove_manifest(shelf: Shelf) -> None:
    shelf.manifest.unlink()


def empty_manifest(shelf: Shelf) -> None:
    shelf.manifest.write_bytes(b"")


def zero_manifest(shelf: Shelf) -> None:
    shelf.manifest.write_bytes(bytes(shelf.manifest.stat().st_size))


def signed(shelf: Shelf, manifest: Manifest) -> bytes:
    """A manifest as only the server itself can make it: were it not signed, that alone would be found."""
    return manifest.signed(shelf.server.backups.signer).to_bytes()


def rewrite(shelf: Shelf, **change: Any) -> None:
    """A manifest that is consistent in itself and says something else."""
    shelf.manifest.write_bytes(signed(shelf, replace(shelf.read_manifest(), **change)))


def other_sha(shelf: Shelf) -> None:
    rewrite(shelf, sha256="0" * 64)


def other_plain_sha(shelf: Shelf) -> None:
    rewrite(shelf, raw_sha256="0" * 64)


def other_size(shelf: Shelf) -> None:
    rewrite(shelf, bytes=shelf.read_manifest().bytes + 1)


def other_plain_size(shelf: Shelf) -> None:
    rewrite(shelf, raw_bytes=shelf.read_manifest().raw_bytes - 1)


def of_other_under_this_name(shelf: Shelf) -> None:
    """The other's manifest, made to name this file."""
    manifest = Manifest.from_bytes("m", Path(f"{shelf.other_image}{MANIFEST_END}").read_bytes())
    here = shelf.read_manifest()
    shelf.manifest.write_bytes(signed(shelf, replace(manifest, id=here.id, file=here.file)))


KINDS: dict[str, Damage] = {
    **{
        f"image: a bit at {share:.0%}": partial(flip_at, share)
        for share in (0, 0.03, 0.25, 0.5, 0.75, 0.97, 1)
    },
    **{
        f"last member's header: {name}": partial(flip_in_header, place)
        for place, name in enumerate(("magic", "magic 2", "method", "flags", "time"))
    },
    "last member's extra flags": partial(flip_in_header, 8),
    "last member's system": partial(flip_in_header, 9),
    "last member's data": flip_in_data,
    "last member's CRC": partial(flip_in_trailer, 0),
    "last member's size": partial(flip_in_trailer, 4),
    **{f"image cut to {keep:.1%}": partial(cut, keep) for keep in (0, 0.001, 0.1, 0.5, 0.9, 0.999)},
    **{f"image cut by {count} bytes": partial(cut_bytes, count) for count in (1, 4, 8, 9)},
    "a byte appended": partial(append, b"\x00"),
    "zeros appended": partial(append, bytes(4096)),
    "text appended": partial(append, b"garbage"),
    "a gzip member appended": partial(append, gzip.compress(b"more")),
    "an empty gzip member appended": partial(append, gzip.compress(b"")),
    "the first byte lost": lose_start,
    "halves swapped": swap_halves,
    "zeros at the start": partial(zero, 0, 0.1),
    "zeros in the middle": partial(zero, 0.5, 0.6),
    "zeros at the end": partial(zero, 0.9, 1),
    "all zeros": partial(zero, 0, 1),
    "an empty gzip": partial(overwrite, gzip.compress(b"")),
    "an HTML page": partial(overwrite, b"<html>503 Service Unavailable</html>"),
    "unpacked": unpack,
    "packed again": pack_again,
    "twice the image": double,
    "image of another backup": take_image_of_other,
    "images swapped": swap_images,
    "image missing": remove_image,
    "manifest of another backup": take_manifest_of_other,
    "manifests swapped": swap_manifests,
    "manifest missing": remove_manifest,
    "manifest empty": empty_manifest,
    "manifest zeroed": zero_manifest,
    "manifest says another hash": other_sha,
    "manifest says another plain hash": other_plain_sha,
    "manifest says another size": other_size,
    "manifest says another plain size": other_plain_size,
    "manifest of another, made to name this": of_other_under_this_name,
}


@pytest.mark.parametrize("kind", KINDS)
def test_k6_damage_is_found_by_verify(shelf: Shelf, kind: str) -> None:
    KINDS[kind](shelf)
    answer = shelf.server.obms("backup", "verify", shelf.id, "--json")
    assert answer.code == 5, answer.err
    if answer.out:
        assert answer.json["ok"] is False
        assert answer.json["level"] is None
    assert not found(shelf.server, shelf.id).proven


def test_k6_there_are_at_least_thirty_kinds() -> None:
    assert len(KINDS) >= 30


def test_without_damage_the_same_backups_are_good(shelf: Shelf) -> None:
    """Otherwise the tests above would say nothing."""
    for id in (shelf.id, shelf.other):
        answer = shelf.server.obms("backup", "verify", id, "--json")
        assert (answer.code, answer.json["level"]) == (0, "proven")


@pytest.mark.parametrize("kind", KINDS)
def test_k6_what_is_damaged_is_not_restored(shelf: Shelf, kind: str) -> None:
    """R1: it is refused before the live database is touched, and what is damaged is said once."""
    before = shelf.server.database.facts()
    KINDS[kind](shelf)
    answer = shelf.server.obms("restore", shelf.id, "--yes")
    assert answer.code == (8 if kind == "manifest missing" else 5), answer.err
    assert answer.err.count("is damaged") <= 1
    assert shelf.server.database.facts() == before


def test_k6_a_bit_in_any_line_of_the_manifest_is_found(shelf: Shelf) -> None:
    good = shelf.manifest.read_bytes()
    start, missed = 0, []
    for line in good.splitlines(keepends=True):
        flip(shelf.manifest, start + len(line) // 2)
        if shelf.server.obms("backup", "verify", shelf.id, "--level", "intact").code != 5:
            missed.append(line)
        shelf.manifest.write_bytes(good)
        start += len(line)
    assert missed == []
    assert start == len(good)


def test_k6_a_change_of_any_member_of_the_manifest_is_found(shelf: Shelf) -> None:
    good = json.loads(shelf.manifest.read_bytes())
    missed = []
    for key, value in good.items():
        changed = {**good, key: f"{value}x" if isinstance(value, str) else None}
        text = json.dumps(changed, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
        shelf.manifest.write_text(text, encoding="utf-8")
        if shelf.server.obms("backup", "verify", shelf.id, "--level", "intact").code != 5:
            missed.append(key)
    assert missed == []


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.8, 0.99])
def test_k6_a_verdict_that_was_changed_proves_nothing(shelf: Shelf, share: float) -> None:
    path = Path(f"{shelf.image}{VERDICT_END}")
    flip(path, int((path.stat().st_size - 1) * share))
    assert not found(shelf.server, shelf.id).proven
    assert shelf.server.obms("backup", "verify", shelf.id).code == 0
    assert found(shelf.server, shelf.id).proven
