"""The rows of a plain SQL dump of PostgreSQL: its COPY blocks, read where there is no PostgreSQL."""

import mmap
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from obms.databases import digests
from obms.databases.postgresql_dump import require_end
from obms.errors import BackupDamaged, NotABackup

HEAD = re.compile(r"COPY (?P<table>.+?) \((?P<columns>.*)\) FROM stdin;")
NAME = re.compile(r'"(?P<quoted>(?:[^"]|"")+)"|(?P<plain>[^\s,"]+)')
BLOCK_END = b"\\.\n"
NULL = r"\N"
SCHEMA = "public."
ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
OCTAL = re.compile(rb"\\(\\|[0-7]{3})")
REVISION_BLOCK = f"\nCOPY {SCHEMA}{digests.REVISION_TABLE} (version_num) FROM stdin;\n".encode()
REVISION_INSERT = f"\nINSERT INTO {SCHEMA}{digests.REVISION_TABLE} ".encode()
UTF8 = b"\nSET client_encoding = 'UTF8';\n"
LONGEST_REVISION = 100
EDGE = 4096
PLAIN = (
    "Make one with plain `pg_dump`, or restore it on a server that runs on PostgreSQL. Nothing was changed."
)
# What a time of so many characters lacks: PostgreSQL leaves zeros away at its end.
FRACTIONS = {19: ".000000", **{20 + digits: "0" * (6 - digits) for digits in range(1, 7)}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The rows of one table, or a part of them: the fields of each line, still escaped; to be read once."""

    table: str
    columns: tuple[str, ...]
    lines: Iterator[list[str]]


def read_revision(dump: Path, *, name: str) -> str:
    """The schema revision that the dump was made at.

    A row cannot pass for the head of a block: of more than one column it has a tab in it.
    """
    with dump.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        if text.find(UTF8, 0, EDGE) < 0:
            raise NotABackup(name=name, detail="the SQL dump is not in UTF-8", hint=PLAIN)
        start = text.find(REVISION_BLOCK)
        if start < 0 and text.find(REVISION_INSERT) >= 0:
            raise NotABackup(name=name, detail="the SQL dump was made with --inserts", hint=PLAIN)
        if start < 0:
            raise NotABackup(name=name, detail="the SQL dump has no rows of alembic_version", hint=PLAIN)
        start += len(REVISION_BLOCK)
        return text[start : start + LONGEST_REVISION].split(b"\n")[0].decode(errors="replace")


def read_blocks(dump: Path, *, name: str) -> Generator[Block]:
    """Each block in the order of the dump; its lines must be read before the next one is asked for."""
    require_end(dump)
    with dump.open("rb") as file:
        for line in file:
            if line.startswith(b"COPY ") and (head := HEAD.fullmatch(line.decode().rstrip("\n"))):
                yield Block(
                    table=bare_name(head["table"].removeprefix(SCHEMA)),
                    columns=tuple(column_names(head["columns"])),
                    lines=_lines(file, name),
                )


def column_names(text: str) -> Iterator[str]:
    return (bare_name(match[0]) for match in NAME.finditer(text))


def bare_name(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _lines(file: BinaryIO, name: str) -> Iterator[list[str]]:
    for line in file:
        if line == BLOCK_END:
            return
        yield line[:-1].decode().split("\t")
    raise BackupDamaged(name=name, detail="the SQL dump ends within the rows of a table")


def text_of(field: str) -> str | None:
    """A field of a line without its escapes. ValueError for one that pg_dump does not write."""
    if "\\" not in field:
        return field
    return None if field == NULL else ESCAPE.sub(_unescape, field)


def _unescape(match: re.Match[str]) -> str:
    try:
        return ESCAPED[match[1]]
    except KeyError:
        raise ValueError(f"{match[0]} is not an escape of pg_dump") from None


def bytes_of(text: str) -> bytes:
    """A bytea, in whichever of its two forms the server writes it."""
    if text.startswith("\\x"):
        return bytes.fromhex(text[2:])
    return OCTAL.sub(lambda match: b"\\" if match[1] == b"\\" else bytes([int(match[1], 8)]), text.encode())


def time_of(text: str) -> str:
    """A timestamptz as SQLite keeps it: in UTC, with microseconds. ValueError beyond the years 1 to 9999."""
    moment = text.removesuffix("+00")
    if moment != text and len(moment) in FRACTIONS and moment[4] == "-":
        return moment + FRACTIONS[len(moment)]
    try:
        found = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"SQLite cannot hold the time {text}") from None
    return found.replace(tzinfo=None).isoformat(" ", "microseconds")
