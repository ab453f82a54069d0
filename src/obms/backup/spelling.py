"""Rows that PostgreSQL keeps in another spelling than SQLite did: named, so that somebody can mend them."""

from collections.abc import Mapping
from pathlib import Path

from obms.databases import Database, Facts
from obms.databases.comparing import Pair, changed_columns, differing, one_moment
from obms.databases.sqlite import Sqlite
from obms.errors import Refused

MEND = (
    "On the server that runs on SQLite write the value again by the API, or by hand as PostgreSQL spells it "
    '(JSON: shorter keys first, ", " and ": " between), and make a new backup. Nothing was changed.'
)


def require_same_spelling(source: Path, copy: Database, facts: Facts, wanted: Mapping[str, str]) -> None:
    """Refused for the first row of a table with another digest than wanted that was changed by copying it.

    `source` is the SQLite database that was copied.
    """
    for name, digest in wanted.items():
        if facts.digests.get(name) != digest:
            with one_moment(Sqlite(source, work=source.parent)) as old, one_moment(copy) as new:
                _require_equal_rows(Pair.of(old, new, name))


def _require_equal_rows(pair: Pair) -> None:
    changed = [key for kind, key in differing(pair) if kind == "changed"]
    if changed:
        row, columns = ", ".join(map(str, changed[0])), ", ".join(changed_columns(pair, changed[0]))
        raise Refused(
            detail=f"{pair.name} row {row}: its {columns} is not spelled as this program spells it, "
            f"so that it cannot be shown equal on PostgreSQL (rows of that kind: {len(changed)})",
            hint=MEND,
        )
