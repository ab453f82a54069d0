"""The seam to a database: what backing up and restoring ask of it, met by SQLite and PostgreSQL."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine

from obms.databases.watching import Watch

# Part of the message that a writer gets who comes to a database that was moved.
MOVED = "this database was moved"
Chunks = Iterator[bytes]
Carry = Callable[[Connection, Connection], int]
Label = Callable[[], str | None]


def no_label() -> None:
    """For content that nobody will ask for by a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a database holds: neutral to its kind, so that two of different kinds compare equal.

    `digests` has one entry per table, equal when the rows are equal in whatever order (see
    `digests.py`); it is empty where it was not asked for.
    """

    revision: str | None
    rows: Mapping[str, int]
    digests: Mapping[str, str] = field(default_factory=dict)


class Snapshot(Protocol):
    """One moment of a database."""

    @property
    def server_version(self) -> str: ...

    @property
    def revision(self) -> str | None:
        """The schema revision, None where there is no schema of this server."""

    @property
    def tools(self) -> Mapping[str, str]:
        """The programs that make the image, each with its version."""

    def chunks(self) -> Generator[bytes]:
        """The image, once. An image that broke off raises BackupFailed at its end, never ends quietly."""

    def facts(self) -> Facts:
        """What the image holds, counted in the same moment; to be asked after the last chunk."""


class Database(Protocol):
    """One database, which may not exist yet.

    Every method raises DatabaseUnreachable (DatabaseMissing where there is none) when it cannot
    work, and leaves the database as it was.
    """

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""

    @property
    def engine(self) -> Engine: ...

    @property
    def folder(self) -> Path | None:
        """The folder whose disk takes the content, None where it is another machine's."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """A moment to be read while writers go on. Everything that can be known to fail fails on entry."""

    def scratch(self) -> AbstractContextManager["Database"]:
        """A new empty database beside this one, removed at the end whatever happens."""

    def create(self) -> None:
        """Make an empty database where there is none."""

    def load(self, image: Path) -> None:
        """Fill this empty database from a plain image, and maybe consume it; BackupDamaged if it cannot."""

    def loads_alike(self, server_version: str) -> bool:
        """Whether this server makes of an image what one of that version was seen to make of it."""

    def size(self) -> int:
        """How many bytes it takes where it is: about what its plain image does."""

    def facts(self, *, digests: bool = True) -> Facts:
        """Revision, rows and digests."""

    def problems(self) -> tuple[str, ...]:
        """What the database's own checks of content and references find, the first of it; reads all of it."""

    def exists(self) -> bool:
        """Whether there is a readable database of this server; what is there but unreadable is not."""

    def damaged(self) -> bool:
        """Whether its content cannot be read to the end for damage of its own; reads all of it."""

    def replace(
        self, scratch: "Database", carry: Carry, *, label: Label = no_label, whole: bool = False
    ) -> str | None:
        """Make the content of `scratch` the content of this database, in one atomic step.

        `carry(old, new)` is called when no writer can add to the old content any more, to bring
        over what must not be lost; a snapshot taken in it is of that final content. An old database
        that is missing or damaged does not stop it: what stands in the way is set aside whole, and
        its new place is returned; one that is empty is nothing, and goes. Where the old content is
        kept it is kept under `label`, which is asked for after `carry`. With `whole` the old database
        is set aside whole even if it can be read: for where there is no other copy of it.
        """

    def overtaken(self) -> AbstractContextManager[Callable[[], bool]]:
        """What tells `carry` whether a snapshot taken in this block may lack what was written since."""

    def previous(self, label: str) -> "Database | None":
        """The content that the last `replace` took away, if this kind of database keeps it, under `label`."""

    def sweep(self) -> None:
        """Remove what a killed run left behind; only to be called under the lock of the backup folder."""

    def watch(self, statement: str) -> Watch:
        """A session of its own that tells whether anything was committed; nothing is connected to yet.

        `statement` gives the rows of some keys, and has `{keys}` where they are to stand.
        """

    def check_rights(self) -> None:
        """GrantMissing, with the grant, if this role may not do what a proof or a restore needs."""

    def check_tools(self) -> object:
        """ToolMissing if the programs that backing up needs are not there, or too old for the server."""


def writing(engine: Engine) -> AbstractContextManager[Connection]:
    """A unit of work that will write: on SQLite it takes the write lock at once, not half-way."""
    return engine.execution_options(writing=True).begin()
