"""The library that kills its own process at the N-th change of a disk or a database: built, armed, asked."""

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_name("killer.c")


class Mode(IntEnum):
    """When the process ends: before the call, after half of its bytes, or after it."""

    before = 0
    half = 1
    after = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """The `number`-th of the points that have `text` in them; number 0 is none."""

    text: str = ""
    number: int = 0
    mode: Mode = Mode.before

    def __str__(self) -> str:
        return f"{self.mode.name} point {self.number}" + (f" with {self.text!r}" if self.text else "")


NEVER = Shot()


def build(folder: Path) -> Path:
    """Compile the library into `folder`; RuntimeError where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise RuntimeError("the kill sweep needs a C compiler named cc: apt-get install gcc libc6-dev")
    library = folder / "killer.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
    return library


def aim(shot: Shot, report: int) -> None:
    """Arm it in this process, which will die there, and write to `report` what the point was."""
    ctypes.CDLL(None).obms_kill_at(shot.text.encode("ascii"), shot.number, int(shot.mode), report)


def shift_clock(seconds: int) -> None:
    """Set the clock of this process so far ahead, or behind: the one of the wall, not those of waiting."""
    ctypes.CDLL(None).obms_shift_clock(ctypes.c_long(seconds))


def points() -> list[str]:
    """Disarm it; what each point since then was, in order."""
    library = ctypes.CDLL(None)
    library.obms_point.restype = ctypes.c_char_p
    reached = library.obms_disarm()
    return [library.obms_point(number).decode("ascii", "replace") for number in range(1, reached + 1)]
