"""The files around the server: who may read what is secret, and whether those that are named are there."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from obms.looking import Finding, Light, Scene

# What a container is given there is read by nobody else, and its mode is not the server's to change.
GIVEN = Path("/run/secrets")


def permissions(scene: Scene) -> Iterator[Finding]:
    """Backups hold what the database holds, and the settings hold the keys."""
    for path, others, light in _guarded(scene):
        if path.exists() and _open_to_others(path, group="g" in others):
            mend = f"`chmod {others}-rwx {path}`"
            detail = f"others of this machine may read {path}"
            yield Finding(name="permissions", light=light, detail=detail, mend=mend)


def _guarded(scene: Scene) -> Iterator[tuple[Path, str, Light]]:
    """Each file, who may not read it, and how bad it is if they may."""
    yield scene.backups.folder, "o", "yellow"
    yield scene.settings, "go", "red"
    if scene.sqlite_file is not None:
        yield scene.sqlite_file, "o", "yellow"
    for path in scene.secret_files:
        if GIVEN not in path.parents:
            yield path, "o", "red"


def _open_to_others(path: Path, *, group: bool) -> bool:
    wanted = stat.S_IROTH | (stat.S_IRGRP if group else 0)
    return bool(path.stat().st_mode & wanted)


def secrets(scene: Scene) -> Iterator[Finding]:
    """That of the private key is asked for late; without the others nothing has started."""
    for path in scene.secret_files:
        if not path.is_file():
            mend = "Put it there, or take BACKUP_AGE_IDENTITY_FILE out."
            yield Finding(name="secrets", light="red", detail=f"there is no file {path}", mend=mend)


def metrics(scene: Scene) -> Iterator[Finding]:
    """A file of metrics is written beside its place, and then renamed."""
    path = scene.metrics_file
    if path is not None and not os.access(path.parent, os.W_OK | os.X_OK):
        mend = "Make the folder of METRICS_FILE, writable for the server's user."
        yield Finding(name="metrics", light="red", detail=f"{path} cannot be written", mend=mend)
