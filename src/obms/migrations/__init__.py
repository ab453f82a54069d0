"""The schema's history: Alembic revisions that bring any older database to today's tables."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from obms.databases import digests, writing
from obms.errors import DatabaseUnreachable, SchemaTooNew


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def newest() -> str:
    """The revision this program needs."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def is_known(revision: str) -> bool:
    """Whether a database of this revision can be brought to today's."""
    return any(
        script.revision == revision for script in ScriptDirectory.from_config(_config()).walk_revisions()
    )


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
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, to)
    except DBAPIError as error:
        raise DatabaseUnreachable(detail=f"{name}: {error.orig}") from error
    return found
