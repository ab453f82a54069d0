"""An end to waiting for a place that may never answer."""

from queue import Empty, Queue
from threading import Thread

from obms.databases import Chunks
from obms.errors import StorageFailed

AHEAD = 4


def patiently(chunks: Chunks, seconds: float) -> Chunks:
    """The same; StorageFailed where the next one takes longer than that, and what hangs is left behind."""
    queue: Queue[bytes | BaseException | None] = Queue(AHEAD)

    def work() -> None:
        ending: BaseException | None = None
        try:
            for chunk in chunks:
                queue.put(chunk)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the chunks are asked for
            ending = error
        queue.put(ending)

    Thread(target=work, daemon=True).start()
    while isinstance(item := _next(queue, seconds), bytes):
        yield item
    if item is not None:
        raise item


def _next(queue: Queue[bytes | BaseException | None], seconds: float) -> bytes | BaseException | None:
    try:
        return queue.get(timeout=seconds)
    except Empty:
        raise StorageFailed(detail=f"nothing was heard of it for {seconds:g} s") from None
