"""Trying again what may pass by waiting. A retry is told to nobody: what fails in the end is an event."""

# stamina brings asyncio, and most commands try nothing again.

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import stamina

Failures = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]


def tries(
    on: Failures,
    *,
    attempts: int,
    timeout: float | None,
    first_pause: float,
    longest_pause: float = 5.0,
) -> "Iterable[stamina.Attempt]":
    """Contexts to do it in, one after another until it is done; the last failure passes through."""
    import stamina
    from stamina.instrumentation import set_on_retry_hooks

    # Its own would write to standard output, which is the command's, and what they write may hold a URL.
    set_on_retry_hooks(())
    return stamina.retry_context(
        on=on, attempts=attempts, timeout=timeout, wait_initial=first_pause, wait_max=longest_pause
    )
