"""A limit to how fast bytes are sent or read, so that a line is left to others too."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from obms.databases import Chunks


class Pace:
    """On average no faster than `rate` bytes a second, from the first that passes on; None is no limit."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._started: float | None = None
        self._passed = 0

    @contextmanager
    def passing(self, count: int) -> Iterator[None]:
        """So many pass in the block, and it ends no sooner than they may have."""
        started = self._started = time.monotonic() if self._started is None else self._started
        yield
        self._passed += count
        if self._rate:
            time.sleep(max(0.0, self._passed / self._rate - (time.monotonic() - started)))


def paced(chunks: Chunks, rate: int | None) -> Chunks:
    """The same bytes, on average no faster than `rate` bytes a second."""
    pace = Pace(rate)
    for chunk in chunks:
        with pace.passing(len(chunk)):
            yield chunk
