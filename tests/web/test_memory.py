"""What a worker holds: what its start loads, and what the C library keeps of what was given back."""

import re
import subprocess
import sys

SAID = """
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""
START = """
import ctypes, threading
from obms.web import give_memory_back
if {set}:
    give_memory_back()
"""
ARENAS = """
together = threading.Barrier(8)
def hold():
    held = [bytes(10_000) for _ in range(10)]
    together.wait(20)
threads = [threading.Thread(target=hold) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
LARGE = """
larger = bytes(20_000_000)
del larger
held = [bytes(1_000_000) for _ in range(8)]
"""
LOADED = """
import sys
from obms.web import create_app
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def said(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def arenas(*, set: bool) -> int:  # noqa: A002
    return said(START.format(set=set) + ARENAS + SAID).count("<heap nr=")


def apart(*, set: bool) -> int:  # noqa: A002
    """How many blocks are apart from the heap, and leave with what is in them."""
    found = re.findall('<total type="mmap" count="([0-9]+)"', said(START.format(set=set) + LARGE + SAID))
    return int(found[-1])


def test_threads_share_memory() -> None:
    assert arenas(set=True) <= 2 < arenas(set=False)


def test_what_is_large_is_given_back_after_what_is_larger_too() -> None:
    assert apart(set=True) >= 8 > apart(set=False)


def test_a_worker_loads_no_library_that_few_requests_need() -> None:
    loaded = set(said(LOADED).split())
    assert "fastapi" in loaded
    assert loaded.isdisjoint({"PIL", "alembic", "apprise", "lxml", "obstore", "psycopg", "pyld", "requests"})
    # Nor what a proof, which is a worker for a moment, needs none of.
    assert loaded.isdisjoint({"structlog", "uvicorn"})
