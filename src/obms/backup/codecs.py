"""Codecs between an image as it is restored and as it is stored."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, Literal, Protocol

import deflate
from isal import isal_zlib

from obms.databases import Chunks
from obms.errors import BackupDamaged

GZIP_MAGIC = b"\x1f\x8b"
GZIP_WINDOW = 31  # zlib's way to say: gzip, with the largest window
WORKERS = 2
STEP = 1 << 20
Compression = Literal["fast", "small"]
# Each makes a member of gzip. The fast one is four times as fast as the small one, and a sixth larger.
COMPRESSORS: Mapping[Compression, Callable[[bytes], bytes]] = {
    "fast": partial(isal_zlib.compress, level=2, wbits=GZIP_WINDOW),
    "small": lambda plain: bytes(deflate.gzip_compress(plain, 6)),
}


class Codec(Protocol):
    """A reversible coding of a stream; memory does not grow with the stream."""

    name: str
    ending: str

    def encode(self, plain: Chunks) -> Chunks: ...

    def decode(self, coded: Chunks) -> Chunks:
        """The plain bytes; BackupDamaged at the first byte that cannot be right, or at a missing end."""


class Gzip:
    """gzip, each chunk a member of its own, so that two cores compress; `gunzip` reads it as one file."""

    name = "gzip"
    ending = ".gz"

    def __init__(self, compression: Compression = "fast") -> None:
        self._compress = COMPRESSORS[compression]

    def encode(self, plain: Chunks) -> Chunks:
        with ThreadPoolExecutor(WORKERS) as pool:
            waiting: deque[Future[bytes]] = deque()
            for chunk in plain:
                waiting.append(pool.submit(self._compress, chunk))
                if len(waiting) > 2 * WORKERS:
                    yield waiting.popleft().result()
            yield from (part.result() for part in waiting)

    def decode(self, coded: Chunks) -> Chunks:
        try:
            yield from _members(coded)
        except isal_zlib.IsalError as error:  # type: ignore[misc]
            raise BackupDamaged(name="gzip stream", detail=str(error)) from error


def _members(coded: Chunks) -> Iterator[bytes]:
    member = isal_zlib.decompressobj(GZIP_WINDOW)
    started = False
    for chunk in coded:
        rest = chunk
        while rest:
            if member.eof:
                member = isal_zlib.decompressobj(GZIP_WINDOW)
            started = True
            yield from _pieces(member, rest)
            rest = member.unused_data if member.eof else b""
    if not started or not member.eof:
        raise BackupDamaged(name="gzip stream", detail="it is truncated")


def _pieces(member: Any, coded: bytes) -> Iterator[bytes]:
    """The plain bytes of one piece, a bounded amount at a time: a few coded bytes may hold gigabytes."""
    more = True
    while more:
        plain = member.decompress(coded, STEP)
        if plain:
            yield plain
        coded = member.unconsumed_tail
        more = not member.eof and (bool(coded) or len(plain) == STEP)


# What a file begins with tells its codec, whatever it is called.
MAGICS = {GZIP_MAGIC: "gzip", b"age-encryption.org/": "age", b"-----BEGIN AGE ENCRYPTED FILE-----": "age"}
LONGEST_MAGIC = max(map(len, MAGICS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The codecs that a new image passes through, in this order; what `others` coded is decoded too."""

    codecs: tuple[Codec, ...]
    others: tuple[Codec, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(codec.name for codec in self.codecs)

    @property
    def ending(self) -> str:
        return "".join(codec.ending for codec in self.codecs)

    @property
    def known(self) -> dict[str, Codec]:
        """Every codec that can be undone, by its name."""
        return {codec.name: codec for codec in (*self.codecs, *self.others)}

    @property
    def quick(self) -> "Chain":
        """The same chain in a hurry: its images may be larger, and are decoded by the same codecs."""
        codecs = (Gzip() if isinstance(codec, Gzip) else codec for codec in self.codecs)
        return replace(self, codecs=tuple(codecs))

    def encode(self, plain: Chunks) -> Chunks:
        for codec in self.codecs:
            plain = codec.encode(plain)
        return plain

    def decode(self, coded: Chunks, names: Iterable[str]) -> Chunks:
        """The plain bytes of what passed through the codecs of these names, in this order."""
        for name in reversed(tuple(names)):
            if name not in self.known:
                raise BackupDamaged(name="image", detail=f"it was coded by {name!r}, which is not known here")
            coded = self.known[name].decode(coded)
        return coded

    def decode_by_content(self, coded: Chunks) -> Chunks:
        """The plain bytes of a file without manifest: its first bytes tell what it passed through."""
        for _ in self.known:
            head, coded = _peek(coded, LONGEST_MAGIC)
            name = next((name for magic, name in MAGICS.items() if head.startswith(magic)), None)
            if name is None:
                break
            coded = self.decode(coded, [name])
        return coded


def _peek(chunks: Chunks, size: int) -> tuple[bytes, Chunks]:
    """The first bytes, `size` of them where there are as many, and the whole stream."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= size:
            break
    return head, chain((head,), chunks)
