"""The faults that the server has to survive, in a sentence each, and the tests that show it.

A test names its fault in its name (`test_b3_...`) or at the start of its docstring ("B3, B4: ..."); a file
whose own docstring does is about that fault as a whole.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
ID = r"[BKRS]\d+"
IN_NAME = re.compile(r"(?<=_)[bkrs]\d+(?=_)")
AT_START = re.compile(rf"{ID}(?:(?:, | and ){ID})*(?=:)")
AT_END = re.compile(rf"(?<=\(){ID}(?:, {ID})*(?=\)\.?$)")
AREAS = {"B": "Making a backup", "K": "Keeping backups", "R": "Restoring", "S": "The server"}
FAULTS = {
    "B1": "The database does not answer, refuses the password, or is not there: exit 3, and no file is left.",
    "B2": "pg_dump is killed, or the server stops under it: exit 4, and no part of an image is left.",
    "B3": "The disk fills up: exit 9, what was written is taken back, older backups are as they were.",
    "B4": "The run is killed at any step: what it left is known as such, and the next run removes it or "
    "makes it whole.",
    "B5": "The SQLite file is gone: exit 3, and no empty database is made and backed up in its place.",
    "B6": "The database is written to all the while: the backup is of one moment, and writers hardly wait.",
    "B7": "The API is stopped, or the folder of the database cannot be written to: it works, or says "
    "why not.",
    "B8": "A second run starts: it is refused with exit 7. A run that died blocks nobody.",
    "B9": "Two runs in one second, or a clock that goes back: names stay apart and in order.",
    "B10": "pg_dump is older than the server: said before anything is written, with the remedy (exit 4).",
    "B11": "A store is down, slow, refuses, or drops the connection: the local backup stands, the copy is "
    "tried again, then exit 9; half a copy never counts.",
    "B12": "The database lost half of its rows: it is backed up, flagged, and nothing older is removed.",
    "B13": "A run hangs: it is ended after `BACKUP_TIMEOUT` with exit 4, and the schedule goes on.",
    "K1": "Backups fail for longer than they are kept: every good one stays.",
    "K2": "Files of others lie in the folder: they are never touched.",
    "K3": "The newest backups are not proven: the newest proven one stays, however old it is.",
    "K4": "The clock is ten years off, or dates lie ahead of it: nothing proven is lost.",
    "K5": "An image, manifest or proof is missing, cut off, or that of another: it is named and "
    "never counts.",
    "K6": "A flipped bit anywhere, a cut at any byte, something added at the end: `verify` finds "
    "each (exit 5).",
    "K7": "The image is whole and its content is wrong - rows gone, a revocation undone, a forged signature: "
    "the proof finds it (exit 6).",
    "K8": "Removal is killed: the catalogue tells the truth afterwards.",
    "R1": "The image is damaged: refused with exit 5 before the live database is touched.",
    "R2": "The `-wal` and `-shm` files of the old SQLite database are still there: they are not replayed.",
    "R3": "The PostgreSQL database holds something already: it is replaced as a whole.",
    "R4": "The restore is killed at any step: the old database or the new one, whole, and a second "
    "try works.",
    "R5": "The disk fills up: said, and the live database is as it was.",
    "R6": "The API writes meanwhile: requests wait or get 503, and none is answered out of a mixture.",
    "R7": "The backup is of the other kind of database: it is restored across and shown equal, or refused "
    "where only the same kind is wanted.",
    "R8": "The backup has another schema: an older one is migrated, a newer one refused with the "
    "version needed.",
    "R9": "The file was made by hand, under any name: it restores, and it is said that it could not "
    "be compared.",
    "R10": "Credentials were revoked after the backup: they stay revoked, are counted and shown.",
    "R11": "The new machine has another `SECRET_KEY`: said before the switch (exit 10), and badges verify.",
    "R12": "There is no terminal: no command waits for a key; it wants `--yes`.",
    "R13": "The machine is empty: the backup, the key and the settings are enough.",
    "R14": "The role may not make databases: said before anything is touched, with the grant that is "
    "missing.",
    "R15": "The private key is wrong or missing: exit 10, and nothing is touched.",
    "S1": "The machine slept when a backup was due: it is made on waking, once.",
    "S2": "No backup was proven for longer than `BACKUP_MAX_AGE`: health, metrics and notices say so.",
    "S3": "The database goes away under the API: 503 and an unhealthy `/health`, and it comes back "
    "by itself.",
    "S4": "The process is told to end in the middle of a backup or a request: it ends clean and in time.",
    "S5": "Many clients issue at once on a first start: one signing key, and every badge verifies.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A test that shows a fault, or with no name all tests of a file."""

    file: str
    test: str = ""

    def __str__(self) -> str:
        return f"`{self.file}`: " + (f"`{self.test}`" if self.test else "every test of it")


@cache
def shown_by_fault() -> dict[str, list[Shown]]:
    """By fault, what shows it."""
    found: dict[str, list[Shown]] = {id: [] for id in FAULTS}
    for path in sorted(TESTS.rglob("test_*.py")):
        for id, shown in shown_in(path):
            found[id].append(shown)
    return found


def shown_in(path: Path) -> Iterator[tuple[str, Shown]]:
    file = path.relative_to(TESTS.parent).as_posix() if path.is_relative_to(TESTS) else path.name
    tree = ast.parse(path.read_text(encoding="utf-8"))
    everywhere = _told(ast.get_docstring(tree))
    for id in sorted(everywhere):
        yield id, Shown(file=file)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            named = {word.upper() for word in IN_NAME.findall(node.name)}
            for id in sorted((named | _told(ast.get_docstring(node))) - everywhere):
                yield id, Shown(file=file, test=node.name)


def _told(docstring: str | None) -> set[str]:
    first = (docstring or "").partition("\n")[0]
    parts = (found[0] for pattern in (AT_START, AT_END) if (found := pattern.search(first)))
    return {id for part in parts for id in re.findall(ID, part)}
