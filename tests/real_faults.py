"""Real faults: small disks, read-only folders, programs that stop half-way, and waiting for them."""

import ctypes
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import TypeVar

import psutil

T = TypeVar("T")
PATIENCE_SECONDS = 30.0
LOOK_SECONDS = 0.01
NOBODY = 65534
CAPABILITY_VERSION = 0x20080522
DAC_CAPABILITIES = 1 << 1 | 1 << 2  # by which root reads and writes what it may not


def wait_until(look: Callable[[], T | None], what: str) -> T:
    """The first thing that `look` finds; AssertionError, naming `what`, if that takes too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        Event().wait(LOOK_SECONDS)
    raise AssertionError(f"{what} did not happen in {PATIENCE_SECONDS} s")


def mount(*arguments: str) -> bool:
    done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    return done.returncode == 0


@contextmanager
def small_disk(path: Path, kilobytes: int) -> Iterator[bool]:
    """A disk of its own at `path`, as small as that; false where this user may not mount one."""
    path.mkdir(parents=True, exist_ok=True)
    mounted = os.geteuid() == 0 and mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(path))
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(path)], check=True)


@contextmanager
def read_only_view(folder: Path, view: Path) -> Iterator[Path]:
    """`folder` where nothing can be written: another mount of it, or without root its own mode."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        try:
            yield folder
        finally:
            folder.chmod(0o755)
        return
    view.mkdir()
    assert mount("--bind", str(folder), str(view))
    try:
        assert mount("-o", "remount,bind,ro", str(view))
        yield view
    finally:
        # Lazily: SQLite keeps a descriptor while another connection of this process has locks on the file.
        subprocess.run(["umount", "--lazy", str(view)], check=True)


@contextmanager
def unreadable(folder: Path) -> Iterator[None]:
    """`folder` as it is to who may not read it, though we are root."""
    mode = folder.stat().st_mode
    folder.chmod(0)
    try:
        with bound_by_modes():
            yield
    finally:
        folder.chmod(mode)


@contextmanager
def bound_by_modes() -> Iterator[None]:
    """The modes of files bind this thread, and those that it starts, though it is root's."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    held = sets[0]
    sets[0] = held & ~DAC_CAPABILITIES
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = held
        assert libc.capset(header, sets) == 0


def fill_disk(path: Path, *, leave: int) -> None:
    """Fill the disk of `path` with a file until `leave` bytes are free."""
    state = os.statvfs(path)
    size = state.f_bavail * state.f_frsize - leave
    with (path / "ballast").open("wb") as file:
        file.write(bytes(max(size, 0)))


def program(path: Path, *lines: str) -> Path:
    """A shell script at `path`; gives its folder, for PATH or PG_BIN_DIR."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/bash", *lines, "")), encoding="utf-8")
    path.chmod(0o755)
    return path.parent


def reader_that(folder: Path, *lines: str) -> dict[str, str]:
    """The environment in which the child that reads the SQLite file does these lines; the file is "$5"."""
    child = program(folder / "bin" / "python", *lines) / "python"
    (folder / "bin" / "sitecustomize.py").write_text(f"import sys\nsys.executable = {str(child)!r}\n")
    path = (str(child.parent), os.environ.get("PYTHONPATH"))
    return {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def dump_that(folder: Path, real: Path, *lines: str) -> Path:
    """A folder whose pg_dump knows its version and otherwise does these lines; $REAL is the real one."""
    return program(
        folder / "pg_dump",
        f"REAL={shlex.quote(str(real / 'pg_dump'))}",
        'if [ "$1" = --version ]; then exec "$REAL" --version; fi',
        *lines,
    )


def child_at_work(parent: int, name: str) -> psutil.Process | None:
    """The child of a process that runs this program, and does more than tell its version."""
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(parent).children(recursive=True):
            if child.name() == name and child.status() != psutil.STATUS_ZOMBIE:
                arguments = child.cmdline()  # none: it is on its way out
                return child if arguments and "--version" not in arguments else None
    return None
