"""A plain SQL dump of PostgreSQL: taken of one moment, and known to be whole."""

import re
import secrets
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from obms.databases import Chunks, Facts
from obms.databases.processes import CHUNK, read_from
from obms.errors import BackupDamaged, BackupFailed

HEAD = b"-- PostgreSQL database dump"
END = b"-- PostgreSQL database dump complete"
# pg_dump 17 and later write a setting that older servers do not know.
TRANSACTION_TIMEOUT = b"SET transaction_timeout = 0;\n"
KNOWS_TIMEOUT = 17
OWN_RESTRICTION = re.compile(rb"\n\\restrict \w+\n")
OWN_LIFTING = re.compile(rb"\n\\unrestrict \w+\s*\Z")
EDGE = 4096  # a dump names itself in its first lines and in its last


def is_image(head: bytes) -> bool:
    """Whether a file that starts with `head` is a plain SQL dump of PostgreSQL."""
    return HEAD in head[:EDGE]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresqlSnapshot:
    """An exported snapshot: pg_dump reads it while the server itself counts and digests it."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    counted: Future[Facts]
    server_version: str
    server_major: int
    tools: Mapping[str, str]

    def chunks(self) -> Chunks:
        dump = read_from(self.command, env=self.environment, error=BackupFailed)
        return whole(dump if self.server_major >= KNOWS_TIMEOUT else without_timeout(dump))

    def facts(self) -> Facts:
        return self.counted.result()


def whole(dump: Chunks) -> Chunks:
    """The dump, or BackupFailed at its end when pg_dump did not say that it is complete."""
    tail = b""
    for chunk in dump:
        tail = (tail + chunk[-EDGE:])[-EDGE:]
        yield chunk
    if END not in tail:
        raise BackupFailed(detail="pg_dump ended with 0, and its output is not complete")


def without_timeout(chunks: Chunks) -> Chunks:
    """The dump as a server older than 17 takes it."""
    head = next(chunks, b"")
    yield head.replace(TRANSACTION_TIMEOUT, b"", 1)
    yield from chunks


def read_dump(image: Path) -> Chunks:
    """The dump from disk; BackupDamaged before its first byte when its end is missing.

    psql takes the end of its input for the end of a COPY, and would load a truncated dump.
    """
    require_end(image)
    with image.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def require_end(image: Path) -> None:
    """BackupDamaged unless the dump says at its end that it is complete."""
    with image.open("rb") as file:
        file.seek(max(0, image.stat().st_size - EDGE))
        if END not in file.read(EDGE):
            raise BackupDamaged(name=image.name, detail="the SQL dump is truncated: its last line is missing")


def restricted(chunks: Chunks) -> Chunks:
    """The dump in psql's restricted mode, in which it may not run programs or turn to another database.

    The key is ours alone: that of the dump stands in it, so that it could lift its own restriction.
    """
    yield f"\\restrict {secrets.token_hex(16)}\n".encode()
    head = next(chunks, b"")
    edge = OWN_RESTRICTION.sub(b"\n", head[:EDGE], count=1)
    held = edge + head[EDGE:]
    for chunk in chunks:
        held += chunk
        yield held[:-EDGE]
        held = held[-EDGE:]
    yield OWN_LIFTING.sub(b"\n", held)
