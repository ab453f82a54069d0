"""The schema's history: Alembic revisions that bring any older database to today's tables."""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from obms.databases import digests, writing
from obms.databases.interruptions import is_full
from obms.errors import DatabaseUnreachable, SchemaTooNew, StorageFailed

if TYPE_CHECKING:
    from alembic.config import Config

NO_ROOM = "Free some space where the database is, and run it again. Nothing was changed."
# Alembic is loaded where a schema is changed: each command needs the names, and few need more than them.
REVISIONS = tuple(sorted(path.stem[:4] for path in Path(__file__).parent.glob("versions/0*.py")))


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def newest() -> str:
    """The revision this program needs."""
    return REVISIONS[-1]


def is_known(revision: str) -> bool:
    """Whether a database of this revision can be brought to today's."""
    return revision in REVISIONS


def migrate(
    engine: Engine, *, name: str = "database", version: str = "unknown", to: str = "head"
) -> str | None:
    """Bring the database to the newest revision, or up to the one `to`; returns the one it had.

    SchemaTooNew, with nothing changed, when either is not one of this program.
    """
    if to != "head" and not is_known(to):
        raise SchemaTooNew(name=name, found=to, version=version)
    try:
        with writing(engine) as connection:
            found = digests.revision(connection)
            if found is not None and not is_known(found):
                raise SchemaTooNew(name=name, found=found, version=version)
            if found == newest():
                return found
            from alembic import command

            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, to)
    except DBAPIError as error:
        if is_full(error):
            raise StorageFailed(detail=f"{name}: {error.orig}", hint=NO_ROOM) from error
        raise DatabaseUnreachable(detail=f"{name}: {error.orig}") from error
    return found
