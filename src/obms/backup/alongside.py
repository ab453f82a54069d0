"""Work on a stream in a thread of its own, while the stream goes on."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from obms.databases import Chunks

AHEAD = 4


def alongside(chunks: Chunks, take: Callable[[bytes], object]) -> Chunks:
    """The same chunks, each given to `take` too, in their order and by one thread.

    All of them were taken when the last one was asked for; what `take` raises is raised here. For
    work that lets other threads run and always ends, such as hashing and writing.
    """
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[object]] = deque()
        for chunk in chunks:
            waiting.append(thread.submit(take, chunk))
            if len(waiting) > AHEAD:
                waiting.popleft().result()
            yield chunk
        for taken in waiting:
            taken.result()
