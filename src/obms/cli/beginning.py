"""`obms init`: the settings of a new server."""

import re
from pathlib import Path
from typing import Annotated

import typer

from obms.cli.common import AsJson
from obms.cli.output import show
from obms.env_file import new_settings, write_settings
from obms.errors import SettingsThere

SETTING = re.compile(r"^(\w+)=(.*)$", re.MULTILINE)


def init(
    *,
    file: Annotated[Path, typer.Option(help="Where to.")] = Path(".env"),
    printed: Annotated[
        bool, typer.Option("--print", help="Print the settings, and write no file: for a container.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the settings of a new server, with a new SECRET_KEY and AUTH_API_KEY; never over a file.

    Example: obms init
    """
    if printed:
        text = new_settings()
        show(dict(SETTING.findall(text)), text.rstrip("\n"), as_json=as_json)
        return
    if not write_settings(file):
        raise SettingsThere(file=file)
    text = f"wrote {file} with a new SECRET_KEY and AUTH_API_KEY: keep a copy of it apart from the backups"
    show({"file": str(file)}, text, as_json=as_json)
