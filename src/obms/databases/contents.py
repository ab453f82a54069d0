"""What stands in a database and is not of this program: it would go with what is put in its place."""

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from obms.errors import ObmsError

# Whatever somebody may have made, in whatever schema; the rows of tables of ours are counted elsewhere.
POSTGRESQL = """
WITH found (namespace, name, plain) AS (
    SELECT relnamespace, relname, relkind IN ('r', 'p', 'S') FROM pg_class
    WHERE relkind IN ('r', 'p', 'S', 'v', 'm', 'f', 'c')
    UNION ALL SELECT pronamespace, proname, false FROM pg_proc
    UNION ALL SELECT typnamespace, typname, false FROM pg_type
    WHERE typrelid = 0 AND (typtype <> 'b' OR typelem = 0)
    UNION ALL SELECT to_regnamespace(quote_ident(current_schema()))::oid, 'large object ' || oid, false
    FROM pg_largeobject_metadata
)
SELECT quote_ident(nspname) || '.' || quote_ident(name)
FROM found JOIN pg_namespace ON pg_namespace.oid = namespace
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
AND NOT (:ours AND plain AND nspname = current_schema())
ORDER BY 1 LIMIT :limit
"""
SQLITE = """
SELECT name FROM sqlite_master
WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND NOT (:ours AND type <> 'view') ORDER BY 1 LIMIT :limit
"""
EXAMPLES = 5


def things_of_others(connection: sa.Connection, *, ours: bool) -> tuple[str, ...]:
    """The names of some of them; `ours` tells that the tables of the default schema are this program's."""
    query = POSTGRESQL if connection.dialect.name == "postgresql" else SQLITE
    return tuple(connection.execute(sa.text(query), {"ours": ours, "limit": EXAMPLES}).scalars())


def holds_nothing(engine: sa.Engine) -> bool:
    """Whether a database is empty; not, where that cannot be read. Closes its connections."""
    try:
        with engine.connect() as connection:
            return not things_of_others(connection, ours=False)
    except DBAPIError:
        return False
    finally:
        engine.dispose()


def dropped_if_empty(engine: sa.Engine, drop: Callable[[], object]) -> bool:
    """Whether a database held nothing, and is gone; not, where that fails: then it stays as it is."""
    try:
        if holds_nothing(engine):
            drop()
            return True
    except (DBAPIError, ObmsError):
        return False
    return False
