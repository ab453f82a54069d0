"""The live database: what brings it to this program's schema or back, and whether its keys open."""

from collections.abc import Iterator

from sqlalchemy.exc import SQLAlchemyError

from obms.errors import DatabaseMissing, DatabaseUnreachable
from obms.looking import Catalog, Finding, Scene
from obms.looking.places import newest_proven

MIGRATE = "`obms migrate`"
RESTORE = "`obms restore latest`"


def mend_of_schema(scene: Scene, revision: str | None, catalog: Catalog) -> str:
    """What to type where it has another schema: one that is empty beside proven backups was lost."""
    lost = revision is None and newest_proven(scene, catalog) is not None
    return RESTORE if lost else MIGRATE


def keys(scene: Scene) -> Iterator[Finding]:
    """Whether SECRET_KEY opens the signing keys: a restored server has no other."""
    if not scene.backups.database.exists():
        raise DatabaseUnreachable(detail="there is none that could be read", hint=DatabaseMissing.hint)
    try:
        scene.backups.check_keys(scene.backups.database)
    except SQLAlchemyError as error:
        mend = RESTORE if scene.backups.database.damaged() else MIGRATE
        yield Finding(name="keys", light="red", detail=str(error).splitlines()[0], mend=mend)
    else:
        yield Finding(name="keys", light="green", detail="SECRET_KEY opens every signing key in use")
