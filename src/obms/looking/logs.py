"""Errors in the log of a server, of whatever program it holds lines of."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

# Ours (level=error), uvicorn's and PostgreSQL's (ERROR: ...), Python's own; whatever stands before it.
TOLD = re.compile(
    r"(?<![\w=-])(?:level=(?:error|critical)\b|(?:ERROR|FATAL|PANIC|CRITICAL):|Traceback \(most recent)"
)
SHOWN, LENGTH = 3, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """How many lines were read, how many of them tell of errors, and the first of those."""

    lines: int
    errors: int
    first: tuple[str, ...]


def read_log(lines: Iterable[str]) -> Log:
    """Read it to its end, a line at a time."""
    first: list[str] = []
    read = errors = 0
    for line in lines:
        read += 1
        if TOLD.search(line) is None:
            continue
        errors += 1
        if len(first) < SHOWN:
            first.append(line.strip()[:LENGTH])
    return Log(lines=read, errors=errors, first=tuple(first))
