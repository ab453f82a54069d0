"""What a worker holds: threads share the memory that the C library keeps."""

import subprocess
import sys

ARENAS = """
import ctypes, threading
from obms.web import share_arenas
if {shared}:
    share_arenas()
together = threading.Barrier(8)
def hold():
    held = [bytes(10_000) for _ in range(10)]
    together.wait(20)
threads = [threading.Thread(target=hold) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


def arenas(*, shared: bool) -> int:
    command = [sys.executable, "-c", ARENAS.format(shared=shared)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return told.count("<heap nr=")


def test_threads_share_memory() -> None:
    assert arenas(shared=True) <= 2 < arenas(shared=False)
