"""A library that reads one file and writes another, made a step of a stream of chunks."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Literal

from obms.databases import Chunks

AHEAD = 4  # chunks that lie ready for the thread, so that it and the caller work at the same time
STEP = 1 << 20

# To the thread: a chunk, None at the end of them, "stop" to give up.
Inbox = SimpleQueue[bytes | None | Literal["stop"]]
# From it: "took" for each chunk it has begun with, what it wrote, "ended".
Outbox = SimpleQueue[bytes | Literal["took", "ended"]]


class Stopped(Exception):
    """Nobody wants the rest."""


class Source:
    """The chunks, as the file that is read."""

    def __init__(self, inbox: Inbox, outbox: Outbox) -> None:
        self._inbox, self._outbox = inbox, outbox
        self._rest = memoryview(b"")
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        if not self._rest and not self._ended:
            self._take()
        part = self._rest[:size] if size >= 0 else self._rest
        self._rest = self._rest[len(part) :]
        return bytes(part)

    def _take(self) -> None:
        chunk = self._inbox.get()
        if chunk == "stop":
            raise Stopped
        if chunk is None:
            self._ended = True
            return
        self._rest = memoryview(chunk)
        self._outbox.put("took")


class Target:
    """The file that is written; small pieces are put together."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> int:
        self._parts.append(data)
        self._size += len(data)
        if self._size >= STEP:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._parts:
            self._outbox.put(b"".join(self._parts))
            self._parts, self._size = [], 0


def through_thread(work: Callable[[Source, Target], object], chunks: Chunks) -> Chunks:
    """What `work` writes while it reads these chunks, in a thread of its own; memory does not grow with them.

    The chunks are asked for in the caller's thread, so that what fails there is raised there, as it is.
    """
    inbox: Inbox = SimpleQueue()
    outbox: Outbox = SimpleQueue()
    whole = (chunk for chunk in chunks if chunk)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(_work, work, Source(inbox, outbox), Target(outbox))
        done.add_done_callback(lambda _: outbox.put("ended"))
        try:
            for _ in range(AHEAD):
                inbox.put(next(whole, None))
            while (item := outbox.get()) != "ended":
                if item == "took":
                    inbox.put(next(whole, None))
                else:
                    yield item
        finally:
            inbox.put("stop")
    done.result()


def _work(work: Callable[[Source, Target], object], source: Source, target: Target) -> None:
    work(source, target)
    target.flush()
