"""A plain SQL dump of PostgreSQL: taken of one moment, and known to be whole."""

import re
import secrets
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from obms.databases import Chunks, Facts
from obms.databases.postgresql_copy import Rows
from obms.databases.processes import CHUNK, read_from
from obms.errors import BackupDamaged, BackupFailed

HEAD = b"-- PostgreSQL database dump"
END = b"-- PostgreSQL database dump complete"
# pg_dump 17 and later write a setting that older servers do not know.
TRANSACTION_TIMEOUT = b"SET transaction_timeout = 0;\n"
KNOWS_TIMEOUT = 17
OWN_RESTRICTION = re.compile(rb"\n\\restrict (\w+)\n")
OWN_LIFTING = re.compile(rb"\n\\unrestrict \w+\s*\Z")
Edge = Callable[[bytes], bytes]
# What stands between these lines are blocks of rows that may be loaded in any order.
ROWS_BEGIN = b"-- Rows, in blocks\n"
ROWS_END = b"-- End of the rows\n"
EDGE = 4096  # a dump names itself in its first lines and in its last


def is_image(head: bytes) -> bool:
    """Whether a file that starts with `head` is a plain SQL dump of PostgreSQL."""
    return HEAD in head[:EDGE]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresqlSnapshot:
    """An exported snapshot: pg_dump writes what is around the rows, two sessions read the rows."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    rows: Rows
    revision: str | None
    server_version: str
    server_major: int
    tools: Mapping[str, str]

    def chunks(self) -> Generator[bytes]:
        # One restriction of psql over all of it: the second part of the dump goes on in that of the first.
        schema = b"".join(self._part("--section=pre-data"))
        lifting = (
            OWN_RESTRICTION.sub(rb"\n\\unrestrict \1\n", match[0])
            if (match := OWN_RESTRICTION.search(schema))
            else b""
        )
        yield OWN_LIFTING.sub(b"\n", schema)
        yield ROWS_BEGIN
        try:
            self.rows.lock()
            yield from self.rows.chunks()
        except psycopg.Error as error:
            raise BackupFailed(detail=str(error).splitlines()[0]) from error
        yield ROWS_END
        rest = self._part(
            "--section=data",
            "--section=post-data",
            *(f"--exclude-table-data={name}" for name in sorted({block.name for block in self.rows.blocks})),
        )
        yield from edged(rest, without_restriction, lambda end: OWN_LIFTING.sub(lambda _: lifting, end))

    def _part(self, *options: str) -> Chunks:
        dump = whole(read_from((*self.command, *options), env=self.environment, error=BackupFailed))
        return dump if self.server_major >= KNOWS_TIMEOUT else without_timeout(dump)

    def facts(self) -> Facts:
        return self.rows.facts(self.revision)


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
    yield from edged(chunks, without_restriction, lambda end: OWN_LIFTING.sub(b"\n", end))


def without_restriction(head: bytes) -> bytes:
    return OWN_RESTRICTION.sub(b"\n", head, count=1)


def edged(chunks: Chunks, first: Edge, last: Edge) -> Chunks:
    """The dump with its first and its last few kilobytes changed."""
    head = next(chunks, b"")
    held = first(head[:EDGE]) + head[EDGE:]
    for chunk in chunks:
        held += chunk
        yield held[:-EDGE]
        held = held[-EDGE:]
    yield last(held)
