"""Where backups are kept: the seam, and the folder."""

import os
import re
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from obms import private
from obms.backup.alongside import alongside
from obms.backup.pace import paced
from obms.databases import Chunks
from obms.errors import AlreadyThere, BackupNotFound, StorageFailed, StoreGone, Unreadable

CHUNK = 1 << 20
PARTIAL_END = ".partial"
PARTIAL = re.compile(rf"\.(?P<name>.+)\.[0-9a-f]{{8}}{re.escape(PARTIAL_END)}")

Ours = Callable[[str], bool]


class Storage(Protocol):
    """Named objects. Every failure is StorageFailed, and changes nothing."""

    @property
    def at_once(self) -> int:
        """How many small objects are best read at the same time."""

    def put(
        self,
        name: str,
        chunks: Chunks,
        *,
        replace: bool = True,
        size: int | None = None,
        rate: int | None = None,
    ) -> None:
        """Store the whole object, durably, or nothing: an exception from `chunks` passes through.

        AlreadyThere, with the older object as it was, where one of this name is not to be replaced.
        `size`: the bytes that will come, where that is known; `rate`: how many are sent a second, on
        average, at most. A store may keep what broke off, as no object, and send only the rest of it the
        next time; BackupDamaged from `chunks` says that it is worth nothing.
        """

    def get(self, name: str) -> Chunks:
        """Its bytes; BackupNotFound before the first one when there is no such object.

        Unreadable where this object cannot be read, whatever else there is.
        """

    def size(self, name: str) -> int:
        """Its size in bytes; BackupNotFound when there is no such object."""

    def names(self, prefix: str = "") -> Iterator[str]:
        """The names of the whole objects, sorted."""

    def sizes(self) -> Mapping[str, int]:
        """The whole objects, each with its size in bytes, by one listing: none is asked for itself."""

    def remove(self, name: str) -> None:
        """Remove it; one that is not there is removed already."""

    def sweep(
        self, ours: Ours = lambda _name: True, *, coming: Container[str] = frozenset()
    ) -> frozenset[str]:
        """Remove what a killed `put` left of the names that are `ours`; only where no other puts those.

        But not what a `put` of those that are `coming` goes on with: their names, as far as there is that.
        """


class Folder:
    """Objects as files in one folder, which is made when something is put there.

    But not where `held` tells that it held objects before: then a disk is not mounted there, and what
    was put would lie on another one.
    """

    at_once = 1

    def __init__(self, path: Path, *, held: Callable[[], bool] = lambda: False) -> None:
        self.path = path
        self._held = held

    def put(
        self,
        name: str,
        chunks: Chunks,
        *,
        replace: bool = True,
        size: int | None = None,
        rate: int | None = None,
    ) -> None:
        with _storage_errors(self.path):
            private.make_folder(self.path)
            partial = self.path / f".{name}.{uuid4().hex[:8]}{PARTIAL_END}"
        try:
            self._write(partial, paced(chunks, rate))
            with _storage_errors(self.path):
                if replace:
                    partial.replace(self.path / name)
                else:
                    self._publish_new(partial, name)
                sync_folder(self.path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise

    def _publish_new(self, partial: Path, name: str) -> None:
        """Give it its name only if nothing has that: a link, unlike a rename, refuses to replace."""
        target = self.path / name
        try:
            target.hardlink_to(partial)
        except OSError as error:
            # A disk that knows no links is one; what else is wrong with it, the rename tells.
            if os.path.lexists(target):
                raise AlreadyThere(name=name, store=self.path) from error
            partial.replace(target)
        else:
            partial.unlink()

    def _write(self, partial: Path, chunks: Chunks) -> None:
        with (
            _storage_errors(self.path),
            os.fdopen(private.make_file(partial, os.O_WRONLY), "wb", buffering=0) as file,
        ):
            write_all(file, chunks)
            os.fsync(file.fileno())

    def get(self, name: str) -> Chunks:
        try:
            with (self.path / name).open("rb", buffering=0) as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except FileNotFoundError as error:
            raise BackupNotFound(name=name) from error
        except OSError as error:
            raise Unreadable(detail=f"{self.path / name}: {error.strerror or error}") from error

    def size(self, name: str) -> int:
        with _storage_errors(self.path):
            try:
                return (self.path / name).stat().st_size
            except FileNotFoundError as error:
                raise BackupNotFound(name=name) from error

    def names(self, prefix: str = "") -> Iterator[str]:
        yield from sorted(entry.name for entry in self._entries() if entry.name.startswith(prefix))

    def sizes(self) -> Mapping[str, int]:
        found = {}
        for entry in self._entries():
            with suppress(FileNotFoundError):  # removed since the names were read
                found[entry.name] = entry.stat().st_size
        return found

    def _entries(self) -> list[os.DirEntry[str]]:
        with _storage_errors(self.path):
            found = list(os.scandir(self.path)) if self.path.is_dir() else []
            entries = [entry for entry in found if _is_file(entry)]
        if not found and self._held():
            raise StoreGone(store=self.path)
        return [entry for entry in entries if not entry.name.endswith(PARTIAL_END)]

    def remove(self, name: str) -> None:
        with _storage_errors(self.path):
            (self.path / name).unlink(missing_ok=True)
            sync_folder(self.path)

    def sweep(
        self, ours: Ours = lambda _name: True, *, coming: Container[str] = frozenset()
    ) -> frozenset[str]:
        with _storage_errors(self.path):
            for path in self.path.glob(f".*{PARTIAL_END}"):
                match = PARTIAL.fullmatch(path.name)
                if match and ours(match["name"]) and not path.is_symlink() and path.is_file():
                    path.unlink(missing_ok=True)
        return frozenset()


def _is_file(entry: "os.DirEntry[str]") -> bool:
    """A link that leads nowhere, or round in a circle, is none: somebody's link stops no backup."""
    try:
        return entry.is_file()
    except OSError:
        return False


def write_all(file: FileIO, chunks: Chunks) -> None:
    """Write every byte: a raw file may take fewer than it is given."""

    def write(chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            view = view[file.write(view) :]

    for _ in alongside(chunks, write):
        continue


@contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(detail=f"{error.filename or folder}: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, as fsync does the content of a file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
