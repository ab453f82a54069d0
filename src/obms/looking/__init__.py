"""Looking at the whole server: `status`, what is unsafe about it (`doctor`), and from outside."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from obms.backup import Backups
from obms.backup.catalog import Backup
from obms.backup.schedule import Schedule
from obms.errors import ObmsError

Catalog = list[Backup]
Light = Literal["green", "yellow", "red"]
LIGHTS: tuple[Light, ...] = ("green", "yellow", "red")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; `mend` is what to type or to set where it is not green."""

    name: str
    light: Light
    detail: str
    mend: str = ""

    @classmethod
    def of(cls, name: str, error: ObmsError, light: Light = "red") -> "Finding":
        """What an error says of it."""
        return cls(name=name, light=light, detail=str(error), mend=error.hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is looked at. `settings` is the file.

    `places` gives those that are told of failures; ConfigurationError where one of them cannot be.
    `misspelt` gives names that are no settings, each with the setting that it looks like.
    `secret_files` are those that the settings read keys and passwords from, the identity's among them.
    """

    backups: Backups
    schedule: Schedule
    drills: Schedule
    max_age: timedelta
    needed_revision: str
    places: Callable[[], tuple[str, ...]]
    settings: Path = Path(".env")
    misspelt: Callable[[], Mapping[str, str]]
    sqlite_file: Path | None
    secret_files: tuple[Path, ...]
    metrics_file: Path | None


def worst(findings: Iterable[Finding]) -> Light:
    """The light of them all."""
    return max((finding.light for finding in findings), key=LIGHTS.index, default="green")
