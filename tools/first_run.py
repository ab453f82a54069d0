"""The first start of a server from a checkout: settings, a database with samples, a first proven backup.

Each step is done only where it is still to be done, so that every later start passes through at once.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from obms.config import Settings, read_settings
from obms.env_file import write_settings

SAMPLES = 25


def main() -> None:
    if write_settings(Path(".env")):
        print("Wrote .env with a new SECRET_KEY and AUTH_API_KEY. Keep a copy of it apart from the backups.")
    settings = read_settings()
    new = database_is_new(settings)
    obms("migrate")
    if new:
        obms("seed", "--credentials", str(SAMPLES))
    if not any(backup["proven"] for backup in backups()):
        obms("backup", "run")
    url = settings.public_url()
    print(f"\nThe API starts at {url}, and shows itself at {url}/docs. Ctrl-C ends it.")


def database_is_new(settings: Settings) -> bool:
    """Whether samples do no harm: only a SQLite file that is not there yet is surely nobody's."""
    return settings.kind() == "sqlite" and not settings.sqlite_file.exists()


def backups() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(obms("backup", "list", "--json", quiet=True))
    return found


def obms(*arguments: str, quiet: bool = False) -> str:
    """Run a command of the program, and end as it ends when it fails; what it printed, if `quiet`."""
    if not quiet:
        print(f"$ obms {' '.join(arguments)}", flush=True)
    program = Path(sys.executable).with_name("obms")
    result = subprocess.run(
        [program, *arguments], check=False, stdout=subprocess.PIPE if quiet else None, encoding="utf-8"
    )
    if result.returncode:
        sys.exit(result.returncode)
    return result.stdout or ""


if __name__ == "__main__":
    main()
