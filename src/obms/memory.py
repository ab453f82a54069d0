"""What the C library does with the memory that threads leave."""

import ctypes
from contextlib import suppress

# M_ARENA_MAX of malloc.h
ARENA_MAX, ARENAS = -8, 2


def share_among_threads() -> None:
    """Glibc keeps memory for each thread apart otherwise: what one of them once took stays with it."""
    with suppress(AttributeError):  # another C library has none
        ctypes.CDLL(None).mallopt(ARENA_MAX, ARENAS)
