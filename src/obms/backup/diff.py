"""What happened between two backups, or a backup and the live database: each row that differs, by its key."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from obms.backup import Backups
from obms.backup.lock import locked
from obms.backup.restore import loaded, require_trust
from obms.backup.run import clean_up
from obms.backup.source import resolve
from obms.backup.trust import NOTHING_MORE, Accepted
from obms.databases import digests
from obms.databases.comparing import Key, Kind, Pair, changed_columns, differing, one_moment
from obms.errors import DatabaseMissing, DatabaseUnreachable

LIVE = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two that are compared; `moment` is the time it shows, if that is known."""

    id: str
    database: str
    revision: str | None
    moment: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A row that differs; `columns` are those that changed, `word` is what people call it."""

    kind: Kind
    key: Mapping[str, object]
    columns: tuple[str, ...] = ()
    word: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDifference:
    """What happened to a table; rows are None on a side that has no such table.

    The changes that are `left_out` are counted only.
    """

    table: str
    rows_before: int | None
    rows_after: int | None
    added: int
    changed: int
    deleted: int
    changes: tuple[Change, ...]
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What happened from `first` to `second`; tables that are equal are not in `tables`.

    `words` counts it as people call it.
    """

    first: Side
    second: Side
    equal: bool
    words: Mapping[str, int]
    tables: tuple[TableDifference, ...]
    seconds: float


def diff(
    backups: Backups, first: str, second: str, *, limit: int, accepted: Accepted = NOTHING_MORE
) -> Difference:
    """Compare two backups, or one with the `live` database, table by table as each was at its own schema.

    Of each table and kind of change the first `limit` rows are named, the others counted.
    """
    started = time.monotonic()
    with locked(backups), ExitStack() as stack:
        clean_up(backups)
        # The live one last, so that its moment is held no longer than the comparing takes.
        opened = {
            name: stack.enter_context(_opened(backups, name, accepted))
            for name in sorted({first, second}, key=lambda name: name == LIVE)
        }
        (before, old), (after, new) = opened[first], opened[second]
        words: Counter[str] = Counter()
        try:
            pairs = (Pair.of(old, new, name) for name in _names(old, new))
            found = [_compare(backups, pair, limit, words) for pair in pairs]
        except DBAPIError as error:
            raise DatabaseUnreachable(detail=str(error.orig).splitlines()[0]) from error
    tables = tuple(table for table in found if table is not None)
    return Difference(
        first=before,
        second=after,
        equal=not tables and before.revision == after.revision,
        words=dict(words),
        tables=tables,
        seconds=round(time.monotonic() - started, 3),
    )


@contextmanager
def _opened(backups: Backups, name: str, accepted: Accepted) -> Iterator[tuple[Side, Connection]]:
    if name == LIVE:
        if not backups.database.exists():
            raise DatabaseMissing(name="to compare with: nothing can be read where the settings say")
        with one_moment(backups.database) as live:
            yield _side(LIVE, backups.database.kind, live, backups.clock()), live
        return
    source = resolve(backups, name, accepted=accepted)
    require_trust(backups, source, accepted)
    moment = source.manifest.started_at if source.manifest else None
    with loaded(backups, source, same_kind=False) as (scratch, _, _), one_moment(scratch) as connection:
        kind = source.manifest.database if source.manifest else scratch.kind
        yield _side(source.id, kind, connection, moment), connection


def _side(id: str, kind: str, connection: Connection, moment: datetime | None) -> Side:
    return Side(id=id, database=kind, revision=digests.revision(connection), moment=moment)


def _names(old: Connection, new: Connection) -> list[str]:
    return sorted({*digests.tables(old), *digests.tables(new)})


def _compare(backups: Backups, pair: Pair, limit: int, words: Counter[str]) -> TableDifference | None:
    """None for a table that is equal."""
    kinds: Counter[Kind] = Counter()
    changes: list[Change] = []
    keys: list[Key] = []
    for kind, key in differing(pair):
        named = dict(zip(pair.key or ("row",), key, strict=True))
        word = backups.word_of(pair.name, kind, named)
        kinds[kind] += 1
        words.update([word] if word else [])
        if kinds[kind] <= limit:
            changes.append(Change(kind=kind, key=named, word=word))
            keys.append(key)
    if not kinds and pair.first is not None and pair.second is not None:
        return None
    # Asked for when the reading is over, for the few that are named.
    told = zip(changes, keys, strict=True)
    return TableDifference(
        table=pair.name,
        rows_before=_count(pair.first, pair.name),
        rows_after=_count(pair.second, pair.name),
        added=kinds["added"],
        changed=kinds["changed"],
        deleted=kinds["deleted"],
        changes=tuple(_with_columns(pair, change, key) for change, key in told),
        left_out=kinds.total() - len(changes),
    )


def _with_columns(pair: Pair, change: Change, key: Key) -> Change:
    return replace(change, columns=changed_columns(pair, key)) if change.kind == "changed" else change


def _count(connection: Connection | None, name: str) -> int | None:
    return None if connection is None else digests.count(connection, [name])[name]
