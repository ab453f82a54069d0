"""Files and folders for the server's user alone: backups and databases hold what is secret."""

import os
import stat
from contextlib import suppress
from pathlib import Path

SHARED = stat.S_ISGID | stat.S_IWGRP


def make_folder(path: Path) -> None:
    """Make the folder for its owner alone, where there is none; in a shared one as the umask has it."""
    if path.is_dir():
        return
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o777 if is_shared(path.parent) else 0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    _give(descriptor, path.parent)
    os.close(descriptor)


def make_file(path: Path, flags: int) -> int:
    """A descriptor of a new file for its owner alone; in a shared folder as the umask has it."""
    mode = 0o666 if is_shared(path.parent) else 0o600
    descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    _give(descriptor, path.parent)
    return descriptor


def open_file(path: Path, flags: int) -> int:
    """A descriptor of the file, which is made if there is none; one that is there keeps its mode."""
    try:
        return make_file(path, flags)
    except FileExistsError:
        return os.open(path, flags | os.O_CLOEXEC)


def is_shared(folder: Path) -> bool:
    """Whether a group works in the folder, or in the one around it: then it must read what is made there."""
    modes = (each.stat().st_mode for each in (folder, folder.parent))
    return any(
        mode & SHARED and not mode & stat.S_ISVTX for mode in modes
    )  # /tmp is everybody's, and no group's


def _give(descriptor: int, folder: Path) -> None:
    """What root makes belongs to whom the folder does: the server may not run as root."""
    if os.geteuid() == 0:
        found = folder.stat()
        with suppress(OSError):  # not on every file system
            os.fchown(descriptor, found.st_uid, found.st_gid)
