"""Watching a database: whether anything was committed to it since, for a small part of what a query costs."""

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

Row = tuple[Any, ...]


class Unwatched(Exception):
    """It cannot be told now what has changed: ask the database in the usual way."""


class Watch(Protocol):
    """One session that looks, of one event loop. Every method raises Unwatched when it cannot tell."""

    @property
    def slow(self) -> bool:
        """Whether an answer is waited for, so that who asks meanwhile had better share the next one."""

    async def look(self) -> Hashable:
        """A value that stays equal only as long as nobody, in whatever process, has committed anything.

        What was committed before the call makes a difference.
        """

    async def rows(self, keys: Sequence[str]) -> list[Row]:
        """What the statement of this watch gives for the keys, as it is now; times as text, in UTC."""

    def close(self) -> None: ...
