"""An end for what hangs: it is interrupted and takes back what it began; failing that, the process ends."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread, current_thread, main_thread

from obms.errors import RunTimedOut

# To close sessions, end children and remove partial files; longer than a cancelled query may take.
GRACE_SECONDS = 20.0
LAST_WORDS_SECONDS = 10.0


class _TimeIsUp(KeyboardInterrupt):
    """As Ctrl-C would: no `except Exception` holds it up, and psycopg cancels the query on the server."""


@contextmanager
def time_limit(
    limit: timedelta,
    describe: Callable[[], str],
    last_words: Callable[[RunTimedOut], object],
    *,
    grace: float = GRACE_SECONDS,
) -> Iterator[None]:
    """RunTimedOut out of the block after `limit`, whatever it waits for; zero is no limit.

    Where the interruption does not get through - a call that never returns, a server that does not
    answer - the children are killed, `last_words` said, and the process ended with the error's exit
    code. Only the main thread can be interrupted: in another there is no limit.
    """
    if not limit or current_thread() is not main_thread():
        yield
        return
    over = Event()

    def interrupt(_signal: int, _frame: object) -> None:
        if not over.is_set():  # pragma: no branch - it is, where both end in the same moment
            raise _TimeIsUp

    def watch() -> None:
        if over.wait(limit.total_seconds()):
            return
        signal.pthread_kill(main.ident or 0, signal.SIGALRM)
        if not over.wait(grace):  # pragma: no cover - it is not, where the process ends
            _end_process(RunTimedOut(limit=limit, stage=describe()), last_words)

    main = main_thread()
    before = signal.signal(signal.SIGALRM, interrupt)
    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    stage = ""
    try:
        try:
            yield
        finally:
            stage = describe()
            over.set()
    except _TimeIsUp:
        raise RunTimedOut(limit=limit, stage=stage) from None
    finally:
        watcher.join()
        signal.signal(signal.SIGALRM, before)


def _end_process(  # pragma: no cover - what would be measured ends with the process
    error: RunTimedOut, last_words: Callable[[RunTimedOut], object]
) -> None:
    """End at once, with everything that was started; what is left on disk, the next run removes."""
    for child in descendants(os.getpid()):
        os.kill(child, signal.SIGKILL)
    # In a thread of their own: the disk that they are written to may be what hangs.
    words = Thread(target=last_words, args=(error,), daemon=True)
    words.start()
    words.join(LAST_WORDS_SECONDS)
    sys.stderr.write(f"obms: {error} {error.hint} (exit {error.exit_code})\n")
    sys.stderr.flush()
    os._exit(error.exit_code)


def descendants(process: int) -> list[int]:
    """The children of a process and theirs, where the system tells (Linux does)."""
    found = []
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in children.read_text(encoding="ascii").split():
            found += [int(child), *descendants(int(child))]
    return found
