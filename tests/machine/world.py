"""The server that the machine plays with: its places, its clock, and how a step is done to it."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import sqlalchemy as sa

from obms.app import open_database
from obms.backup.catalog import IMAGE, Backup, read_catalog
from obms.backup.storage import Folder
from obms.schema import achievements
from tests.deployment import Deployment
from tests.faults.fork_server import Ending, ForkServer
from tests.faults.killer import NEVER, Mode, Shot
from tests.faults.scene import QUIET
from tests.machine.moments import Held, Moment, Place, read_moment
from tests.real_faults import fill_disk, small_disk, wait_until

DISK_KILOBYTES = 48 * 1024
POINTS = 150  # of a command that was not seen yet
FOREIGN = {"notes.txt": b"whose is this?", "dump of last year.sql.gz": b"\x1f\x8b not ours"}
# With these in the folder no day of the journal is ever too old.
NAMED_LIKE_OURS = {
    "sqlite_backup_2020-01-01_00-00-00.db.gz": b"named like ours",
    "postgres_backup_2020-01-01_00-00-00.sql.gz": b"named like ours too",
}


@dataclass(slots=True, kw_only=True)
class World:
    """`live` is None where the database is lost. `local` and `stored` are the moments of images by file."""

    deployment: Deployment
    forking: ForkServer
    has_small_disk: bool
    chance: Random = field(default_factory=Random)
    ahead: int = 0
    went_back: bool = False
    live: Moment | None = None
    foreign: dict[str, bytes] = field(default_factory=lambda: dict(FOREIGN))
    known: list[str] = field(default_factory=list)
    achievements: list[str] = field(default_factory=list)
    local: dict[str, Moment] = field(default_factory=dict)
    stored: dict[str, Moment] = field(default_factory=dict)
    spoiled: dict[str, set[str]] = field(default_factory=dict)
    whole: dict[str, bytes] = field(default_factory=dict)
    pinned: set[str] = field(default_factory=set)
    journal: Held = field(default_factory=Held)
    shipped: Held = field(default_factory=Held)
    ever: Held = field(default_factory=Held)
    lifted: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    places: dict[tuple[str, str], Place] = field(default_factory=dict)
    points: dict[str, int] = field(default_factory=dict)
    said: str = ""

    @property
    def folder(self) -> Path:
        return self.deployment.backup_dir

    @property
    def store(self) -> Path:
        return self.deployment.folder / "store"

    @property
    def kind(self) -> str:
        return self.deployment.database.kind

    def do(self, *arguments: str, shot: Shot = NEVER, **environment: str) -> Ending:
        """Run the command, and remember what it said."""
        settings = {**self.deployment.environment, **environment}
        return self._ended(" ".join(arguments), self.forking.run(arguments, settings, shot, ahead=self.ahead))

    def ask(self, wishes: Sequence[Mapping[str, str]], shot: Shot = NEVER) -> list[Any]:
        """What the API has answered."""
        ending = self.forking.run(
            [json.dumps(wishes)],
            self.deployment.environment,
            shot,
            program="tests.machine.client",
            ahead=self.ahead,
        )
        self._ended("api", ending)
        assert ending.status <= 0, ending.said
        return [json.loads(line) for line in ending.out.splitlines() if line.endswith("}")]

    def _ended(self, command: str, ending: Ending) -> Ending:
        if ending.points:
            self.points[_plain(command)] = len(ending.points)
        if ending.status < 0:
            self._wait_until_quiet()
        point = f" at {ending.point.strip()}" if ending.point else ""
        self.said = f"{command}: {ending.status}{point} {ending.said.strip()[-300:]}"
        return ending

    def _wait_until_quiet(self) -> None:
        """Until PostgreSQL has noticed that its clients are dead."""
        if self.deployment.postgres is None:
            return
        with psycopg.connect(self.deployment.postgres.url(), autocommit=True) as connection:
            wait_until(
                lambda: connection.execute(QUIET).fetchone() == (True,), "the end of the dead sessions"
            )

    def draw_shot(self, command: str) -> Shot:
        """Anywhere in the command, as far as it is known how long that is."""
        number = 1 + int(self.chance.random() * self.points.get(_plain(command), POINTS))
        return Shot(number=number, mode=self.chance.choice(list(Mode)))

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """The disk of the backups has little room, or none."""
        fill_disk(self.folder, leave=self.chance.choice([0, 4096, 20_000, 60_000, 120_000, 300_000]))
        try:
            yield
        finally:
            (self.folder / "ballast").unlink()

    def look(self) -> Moment | None:
        """The live database as it is now."""
        return read_moment(open_database(self.deployment.settings))

    def catalog(self, folder: Path | None = None) -> list[Backup]:
        """Newest first, without those that somebody else has put there."""
        found = read_catalog(Folder(folder or self.folder), self.trusted)
        return [backup for backup in found if backup.file not in NAMED_LIKE_OURS]

    @property
    def trusted(self) -> str | None:
        return self.deployment.backups.trusted

    def put_foreign(self) -> None:
        for name, content in self.foreign.items():
            (self.folder / name).write_bytes(content)

    def images(self, folder: Path) -> list[str]:
        names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        return [name for name in names if IMAGE.fullmatch(name) and name not in NAMED_LIKE_OURS]

    def draw_image(self) -> str | None:
        """One of the images, but for those that the next command sweeps away."""
        marks = ((file, (f".{file}.begun", f".{file}.removing")) for file in self.images(self.folder))
        files = [file for file, names in marks if not any((self.folder / name).exists() for name in names)]
        return self.chance.choice(files) if files else None

    def good_ones(self) -> list[str]:
        """The proven ones that nothing was done to."""
        return [
            backup.file for backup in self.catalog() if backup.proven and not self.spoiled.get(backup.file)
        ]

    def lose_folder(self) -> None:
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.put_foreign()
        self.pinned.clear()
        self.journal = Held()

    def lose_database(self) -> None:
        server = self.deployment
        server.database.engine.dispose()
        if server.postgres is None:
            shutil.rmtree(server.folder / "data", ignore_errors=True)
        else:
            server.postgres.psql(
                f'DROP DATABASE IF EXISTS "{server.database.engine.url.database}" WITH (FORCE)'
            )


def _plain(command: str) -> str:
    """The command without what it is given."""
    words = command.split()
    return " ".join(words[:2]) if words[0] == "backup" else words[0]


@contextmanager
def begun(deployment: Deployment, forking: ForkServer) -> Iterator[World]:
    """A server with a few badges, a store, a small disk where that can be, and foreign files on it."""
    with small_disk(deployment.backup_dir, DISK_KILOBYTES) as mounted:
        deployment.environment["BACKUP_STORES"] = str(deployment.folder / "store")
        deployment.seed(12)
        world = World(deployment=deployment, forking=forking, has_small_disk=mounted)
        world.put_foreign()
        world.live = world.look()
        assert world.live is not None
        world.known = sorted(world.live.credentials)
        world.places = dict(world.live.places)
        world.ever = Held.of(world.live)
        world.achievements = _achievements(deployment)
        yield world


def _achievements(deployment: Deployment) -> list[str]:
    with deployment.database.engine.connect() as connection:
        found = list(connection.execute(sa.select(achievements.c.id).order_by(achievements.c.id)).scalars())
    deployment.database.engine.dispose()
    return found
