"""How the server stands, for a machine that asks often: as `status`, and whether the database is whole."""

from collections.abc import Iterator
from datetime import timedelta

import sqlalchemy as sa

from obms.databases.quick_check import quick_check
from obms.looking import Catalog, Finding, Scene, doctor, places, status

LIMIT = timedelta(seconds=2)
# What the database cannot do without: the rest may be mended while it answers.
VITAL = "integrity"
RESTORE = "`obms backup verify latest`, then `obms restore latest`"


def look(scene: Scene) -> list[Finding]:
    """Every finding; no row is counted, and no store is asked."""
    catalog = status.read_catalog_if_it_can(scene)
    return [found for one in LOOKS for found in status.take(one, scene, catalog)]


def integrity(scene: Scene, _catalog: Catalog) -> Iterator[Finding]:
    try:
        with scene.backups.database.engine.connect() as connection:
            found = quick_check(connection, LIMIT)
    except sa.exc.SQLAlchemyError as error:
        detail = str(error).splitlines()[0]
        yield Finding(name=VITAL, light="red", detail=detail, mend=RESTORE)
        return
    if found.problems:
        yield Finding(name=VITAL, light="red", detail="; ".join(found.problems), mend=RESTORE)
    else:
        yield Finding(name=VITAL, light="green", detail=found.detail)


def clock(scene: Scene, _catalog: Catalog) -> Iterator[Finding]:
    return doctor.clock(scene)


LOOKS: tuple[status.Look, ...] = (
    integrity,
    status.backups,
    status.last_run,
    status.stores,
    status.drill,
    status.journal,
    places.disk,
    clock,
)
