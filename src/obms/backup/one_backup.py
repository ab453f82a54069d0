"""A place as if it held one backup alone, for work that would otherwise be done to all of them."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from obms.backup.storage import Ours, Storage
from obms.databases import Chunks


@dataclass(frozen=True, slots=True)
class OneBackup:
    """The objects of one backup, in all its forms, with its pin and its marks."""

    inner: Storage
    id: str

    @property
    def at_once(self) -> int:
        return self.inner.at_once

    def put(
        self,
        name: str,
        chunks: Chunks,
        *,
        replace: bool = True,
        size: int | None = None,
        rate: int | None = None,
    ) -> None:
        self.inner.put(name, chunks, replace=replace, size=size, rate=rate)

    def get(self, name: str) -> Chunks:
        return self.inner.get(name)

    def size(self, name: str) -> int:
        return self.inner.size(name)

    def names(self, prefix: str = "") -> Iterator[str]:
        return filter(self._is_of_it, self.inner.names(prefix))

    def sizes(self) -> Mapping[str, int]:
        return {name: size for name, size in self.inner.sizes().items() if self._is_of_it(name)}

    def remove(self, name: str) -> None:
        self.inner.remove(name)

    def sweep(
        self, ours: Ours = lambda _name: True, *, coming: Container[str] = frozenset()
    ) -> frozenset[str]:
        return self.inner.sweep(lambda name: ours(name) and self._is_of_it(name), coming=coming)

    def _is_of_it(self, name: str) -> bool:
        return name.removeprefix(".").startswith(f"{self.id}.")
