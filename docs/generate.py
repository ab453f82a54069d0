"""Write the tables of the reference from the program itself: settings, exit codes and commands.

`make docs` writes them; a test compares them, so that none is ever out of date.
"""

import inspect
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import typer
from typer.core import TyperCommand, TyperGroup

from docs.faults import AREAS, FAULTS, shown_by_fault
from obms import cli, errors
from obms.config import SECRETS, Settings

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
NOTICE = "<!-- Written by `make docs`; change the program, not this file. -->"
UNEXPECTED = 500
# What the compose files read of .env, beside the settings of the server.
CONTAINERS = (
    (
        "COMPOSE_PROFILES",
        "",
        "Containers only: `db` starts PostgreSQL too. Set DB_TYPE and POSTGRES_PASSWORD with it.",
    ),
    ("OBMS_IMAGE", "openbadges-modular-server:latest", "Containers only: the image of the server."),
    ("PYTHON_IMAGE", "python:3.11-slim-bookworm", "Containers only: what it is built on."),
    ("POSTGRES_IMAGE", "postgres:18", "Containers only: the image of PostgreSQL."),
    ("OBMS_USER", "10001", "Containers only: id of the user who runs the server, and owns ./backups."),
    ("MEMORY_LIMIT", "1g", "Containers only: memory of the API, and of the backups."),
    ("POSTGRES_MEMORY_LIMIT", "1g", "Containers only: memory of PostgreSQL."),
    ("TEST_PORT", "3001", "Containers only: port of the API of docker-compose.test.yml."),
)
MEANINGS = {
    0: "done",
    1: "unexpected: a bug",
    2: "wrong usage or configuration",
    3: "the database, or the server that is looked at, cannot be reached",
    4: "the backup could not be made",
    5: "the backup is damaged, or is not what it claims",
    6: "not proven: it was judged and found bad, or could not be judged",
    7: "another run holds the lock",
    8: "refused: needs `--yes`, or is unsafe",
    9: "the storage failed",
    10: "a key is missing",
}


def main() -> None:
    for path, page in {**PAGES, FAULTS_PAGE: faults_page}.items():
        path.write_text(page(), encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")


# Settings


def settings_page() -> str:
    lead = (
        "Read from the environment, or from a file `.env` in the working folder; the environment wins, "
        "and what is empty is not set. "
        "Durations are seconds, or end in `s`, `m`, `h` or `d`. "
        f"A secret ({_listed(SECRETS)}) may stand in a file instead: `SECRET_KEY_FILE` names the one"
        " of `SECRET_KEY`. Where both are set, the file is not read."
    )
    rows = (
        (f"`{name}`", f"`{default}`" if default else "", meaning) for name, default, meaning in _settings()
    )
    return _page("Settings", lead, _table(("setting", "default", "meaning"), rows))


def environment_example() -> str:
    lead = "# Copy to .env and change. SECRET_KEY has to be set; what is commented out is the default.\n"
    return lead + "".join(
        f"\n# {meaning}\n#{name}={default}\n" for name, default, meaning in (*_settings(), *CONTAINERS)
    )


def _settings() -> Iterator[tuple[str, str, str]]:
    for name, field in Settings.model_fields.items():
        yield field.title or name.upper(), _written(field.default), field.description or ""


def _written(default: object) -> str:
    """A default as it would be written in the environment."""
    if isinstance(default, timedelta):
        return f"{default.total_seconds() / 3600:g}h"
    if isinstance(default, tuple):
        return " ".join(default)
    return "" if default is None or default == {} else str(default)


# Exit codes and errors


def exit_codes_page() -> str:
    lead = "A command ends with one of these, and prints on standard error what happened and what to do."
    kinds = errors_of_the_program()
    codes = _table(("exit", "meaning"), ((str(code), meaning) for code, meaning in MEANINGS.items()))
    told = _table(
        ("exit", "message", "what to do"),
        (
            (str(kind.exit_code), _message(kind), _placeholders(kind.hint))
            for kind in kinds
            if kind.exit_code > 1 and kind.hint
        ),
    )
    over_http = _table(
        ("status", "message"),
        ((str(kind.status), _message(kind)) for kind in kinds if kind.status != UNEXPECTED),
    )
    return _page(
        "Exit codes and errors", lead, codes, "## What is printed", told, "## What HTTP answers", over_http
    )


def errors_of_the_program() -> list[type[errors.ObmsError]]:
    found = [kind for kind in vars(errors).values() if inspect.isclass(kind)]
    return [kind for kind in found if issubclass(kind, errors.ObmsError)]


def _message(kind: type[errors.ObmsError]) -> str:
    return _placeholders(inspect.getdoc(kind) or "")


def _placeholders(text: str) -> str:
    """Names in braces as a reader knows them: `{name!r}` becomes NAME."""
    return re.sub(r"\{(\w+)(!r)?\}", lambda found: found[1].upper(), text)


# Commands


def commands_page() -> str:
    lead = "`obms <command> --help` says the same, with an example."
    sections = [
        _command(name, command) for name, command in _commands(typer.main.get_command(cli.app), "obms")
    ]
    return _page("Commands", lead, *sections)


def _commands(command: object, name: str) -> Iterator[tuple[str, TyperCommand]]:
    """Every command that does something, in the order of the program, groups passed through."""
    if isinstance(command, TyperGroup):
        for word, inner in command.commands.items():
            yield from _commands(inner, f"{name} {word}")
    elif isinstance(command, TyperCommand) and not command.hidden:
        yield name, command


def _command(name: str, command: TyperCommand) -> str:
    context = typer.Context(command)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    help_text = inspect.cleandoc(command.help or "").replace("\b", "").strip()
    records = (parameter.get_help_record(context) for parameter in command.params)
    rows = ((f"`{written}`", meaning) for written, meaning in filter(None, records))
    parts = (f"## {name}", f"```text\n{usage}\n```", help_text, _table(("option", "meaning"), rows))
    return "\n\n".join(part for part in parts if part)


# Faults


def faults_page() -> str:
    lead = (
        "What can go wrong, what happens then, and the tests in which it really goes wrong: killed "
        "processes, full disks, stopped servers, damaged files."
    )
    shown = shown_by_fault()
    rows = ((f"[{id}](#{id.lower()})", AREAS[id[0]], what) for id, what in FAULTS.items())
    lists = [
        part for id, tests in shown.items() for part in (f"## {id}", "\n".join(f"- {test}" for test in tests))
    ]
    return _page("Faults", lead, _table(("id", "when", "fault, and what happens"), rows), *lists)


# Markdown


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", NOTICE, *(part.rstrip() for part in parts)]) + "\n"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table, or nothing where it would have no rows."""
    body = list(rows)
    lines = [head, ("---",) * len(head), *body] if body else []
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# Not one of PAGES: a test that is new may lack in it, and one that is gone may not stand in it.
FAULTS_PAGE = REFERENCE / "faults.md"
PAGES = {
    REFERENCE / "settings.md": settings_page,
    REFERENCE / "exit-codes.md": exit_codes_page,
    REFERENCE / "commands.md": commands_page,
    ROOT / ".env.example": environment_example,
}


if __name__ == "__main__":
    main()
