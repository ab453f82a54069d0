"""Questions of several requests, put to a database together."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Generic, TypeVar

from obms.databases.watching import Unwatched

Found = TypeVar("Found")
Ask = Callable[[set[str]], Awaitable[Mapping[str, Found]]]


class Gathering(Generic[Found]):
    """Asks for all who wait; who comes while it is asked waits for the next question.

    So each gets an answer to a question that was put after it came.
    """

    def __init__(self, ask: Ask[Found], *, together: bool) -> None:
        self.ask = ask
        self.together = together
        self._waiting: list[tuple[str, asyncio.Future[Found | None]]] = []
        self._turn: asyncio.Task[None] | None = None

    async def find(self, id: str) -> Found | None:
        """What there is now of this id; None also where it cannot be told."""
        if not self.together:
            with suppress(Unwatched):
                return (await self.ask({id})).get(id)
            return None
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Found | None] = loop.create_future()
        self._waiting.append((id, found))
        if self._turn is None:
            self._turn = loop.create_task(self._tell())
        return await found

    async def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        current: Mapping[str, Found] = {}
        try:
            with suppress(Unwatched):
                current = await self.ask({id for id, _ in waiting})
        finally:
            # Whatever happened, nobody waits for ever.
            for id, found in waiting:
                if not found.done():
                    found.set_result(current.get(id))
            self._turn = asyncio.get_running_loop().create_task(self._tell()) if self._waiting else None
