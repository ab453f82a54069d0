"""What the commands share: options, the settings, the objects made of them, the end of a verdict."""

# Imports stand where they are needed, so that `--help` answers at once.

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from obms.errors import DatabaseNotMigrated, DatabaseUnreachable, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.exc import SQLAlchemyError

    from obms.backup import Backups
    from obms.backup.manifest import Check, Verdict
    from obms.backup.storage import Storage
    from obms.config import Settings
    from obms.databases import Database
    from obms.server import Server

NAME_HELP = "An id, a file name, a path to a file, or `latest`; of a store: its URL, `/`, and one of these."
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
AcceptUnsigned = Annotated[
    bool, typer.Option("--accept-unsigned", help="Take it although its manifest is not signed.")
]
AcceptOtherKey = Annotated[
    bool, typer.Option("--accept-other-key", help="Take it although it was made with another SECRET_KEY.")
]
Name = Annotated[str, typer.Argument(help=NAME_HELP)]
StoreUrl = Annotated[
    str | None,
    typer.Option("--store", help="Look in this store instead of BACKUP_DIR: its URL, or a folder."),
]


# What tells the right name of a thing that was not found.
LISTS = {
    "issuer": "`obms keys list` names the issuers.",
    "key": "`obms keys list` shows what there is.",
    "user": "`obms users list` shows what there is.",
    "API key": "`obms users api-key list USER` shows those of a user.",
}


def load_settings() -> "Settings":
    from obms.config import read_settings

    return read_settings()


def make_server(settings: "Settings") -> "Server":
    from obms.app import open_server

    return open_server(settings)


@contextmanager
def opened_server() -> "Iterator[Server]":
    """The server of the settings, for work on rows; what its database complains of becomes an ObmsError."""
    from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

    server = make_server(load_settings())
    try:
        yield server
    except SQLAlchemyError as error:
        from obms.web.problems import is_away

        if not is_away(error) and not isinstance(error, ProgrammingError):  # a right may be missing
            raise
        raise _complaint(server, error) from error
    except NotFound as error:
        raise NotFound(**error.facts, hint=LISTS[str(error.facts["what"])]) from error
    finally:
        server.database.engine.dispose()


def _complaint(server: "Server", error: "SQLAlchemyError") -> DatabaseUnreachable:
    """What is the matter, which the database itself tells best; if it knows of nothing, what was said."""
    revision = server.database.facts(digests=False).revision
    if revision != server.needed_revision:
        return DatabaseNotMigrated(found=revision or "none", needed=server.needed_revision)
    return DatabaseUnreachable(detail=str(getattr(error, "orig", error)).splitlines()[0])


def make_backups(settings: "Settings", *, logged: bool = False) -> "Backups":
    """What backing up needs; events go to the log, or to nobody where the command itself tells."""
    from obms.app import open_backups, open_hook
    from obms.memory import share_among_threads

    share_among_threads()
    return open_backups(settings, _probe, open_hook(settings, logged=logged))


def make_onlooker(settings: "Settings") -> "Backups":
    """The same for who only looks: nobody is told of anything, and nothing is counted."""
    from obms.app import open_backups
    from obms.observe import no_event

    return open_backups(settings, _probe, no_event)


def _probe(server_of: "Callable[[Database], Server]") -> "Callable[[Database], list[Check]]":
    """The application's own proof, which is loaded when it is asked for: most commands prove nothing."""

    def prove(database: "Database") -> "list[Check]":
        from obms.web.probe import probe

        return probe(server_of)(database)

    return prove


def open_storage(settings: "Settings", store: str | None) -> "Storage":
    """The store of this URL, or the folder of the backups."""
    from obms.app import open_copies
    from obms.backup.storage import Folder

    return open_copies(settings).at(store).storage if store else Folder(settings.backup_dir)


def named(name: str, store: str | None) -> str:
    """The name of a backup, made one of the store if that is given."""
    from obms.backup.stores import join_name

    return join_name(store, name) if store else name


def require_good(verdict: "Verdict") -> None:
    """Exit 5 for bytes that are not what the manifest says, 6 for any other verdict than good."""
    if failure := verdict.failure():
        raise failure
