"""The blocks of the documents that are not run: each command in them is one that there is."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from obms.cli import app

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if BLOCK.search(path.read_text("utf-8")))
# Between them stands a command of its own.
ENDS = re.compile(r"[|&;\n]+")


def commands(page: str) -> Iterator[list[str]]:
    """The words of each command in the blocks of a page."""
    for block in BLOCK.findall(page):
        words: list[str] = []
        for word in [*words_of(block), ";"]:
            if not ENDS.fullmatch(word):
                words.append(word)
            elif words:
                yield words
                words = []


def words_of(block: str) -> list[str]:
    """As a shell reads them; the end of a line is a word, unless it stands in quotes."""
    plain = re.sub(r"(?m)(^|\s)#.*$", "", block.replace("\\\n", " "))
    lexer = shlex.shlex(plain, posix=True, punctuation_chars="|&;\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    return list(lexer)


def complaint(words: list[str]) -> str | None:
    """What is wrong with a command of Compose or of this program; others are not judged."""
    if words[0] == "docker-compose":
        return of_compose(words)
    if "obms" in words:
        return of_program(words[words.index("obms") + 1 :])
    return None


def of_compose(words: list[str]) -> str | None:
    file = ROOT / words[2]
    if words[1] != "-f" or not file.exists():
        return f"there is no {words[2]}"
    if words[3] not in ("up", "run", "logs", "down", "ps", "stop", "start"):
        return f"Compose does not know {words[3]}"
    if words[3] != "run":
        return None
    service = next(word for word in words[4:] if not word.startswith("-") and not word.startswith("./"))
    if service not in yaml.safe_load(file.read_text("utf-8"))["services"]:
        return f"{file.name} has no service {service}"
    asked = words[words.index(service) + 1 :]
    if asked[0] == "obms":
        return of_program(asked[1:])
    return None if (ROOT / "deploy" / asked[0].lstrip("/")).exists() else f"there is no {asked[0]}"


def of_program(words: list[str]) -> str | None:
    command = get_command(app)
    rest = list(words)
    while isinstance(command, TyperGroup):
        if not rest or rest[0] not in command.commands:
            return f"obms has no command {' '.join(words)}"
        command = command.commands[rest.pop(0)]
    assert isinstance(command, TyperCommand)
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in known]
    return f"obms {' '.join(words)}: {unknown}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_each_command_that_a_page_shows_is_there(page: Path) -> None:
    found = [complaint(words) for words in commands(page.read_text("utf-8"))]
    assert [one for one in found if one] == []


def test_the_guide_is_looked_at() -> None:
    found = list(commands((ROOT / "docs" / "guide" / "README.md").read_text("utf-8")))
    assert sum(words[0] == "docker-compose" for words in found) > 10


@pytest.mark.parametrize(
    "line",
    [
        "obms backup rum",
        "obms restore latest --now",
        "docker-compose -f docker-compose.nowhere.yml up -d",
        "docker-compose -f docker-compose.prod.yml run --rm bakup /scripts/backup.sh",
        "docker-compose -f docker-compose.prod.yml run --rm -v ./backups:/backups backup /scripts/back.sh",
        "true && obms nothing",
    ],
)
def test_a_command_that_is_not_there_is_told(line: str) -> None:
    (*_, words) = commands(f"```sh\n{line}\n```\n")
    assert complaint(words)
