"""What backups are given of badges; each part is imported where it is asked for: most runs ask for none."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from obms.badges import Site

Entry = Mapping[str, Any]


def carry(old: Connection, new: Connection) -> int:
    """What a restore takes over from the live database; how many revocations and suspensions."""
    from obms.badges.carrying import carry_revocations
    from obms.badges.closing import carry_closings

    carry_closings(old, new)
    return carry_revocations(old, new)


def entries_since(connection: Connection, since: datetime | None) -> Iterator[Entry]:
    """What the journal has to hold."""
    from obms.badges.closing import closings_since
    from obms.badges.standings import standings_since

    yield from standings_since(connection, since)
    yield from closings_since(connection, since)


def replay(new: Connection, entries: Iterable[Entry]) -> Iterator[tuple[Entry, int]]:
    from obms.badges.replaying import replay

    return replay(new, entries)


def count_known(old: Connection, entries: Iterable[Entry]) -> int:
    from obms.badges.replaying import count_known

    return count_known(old, entries)


def count_since(entries: Iterable[Entry], since: datetime) -> int:
    from obms.badges.replaying import count_since

    return count_since(entries, since)


def check_keys(connection: Connection, site: Site) -> None:
    from obms.badges.keys import check_keys

    check_keys(connection, site)


def bring(
    old: Connection, new: Connection, wanted: Sequence[str], *, origin: str, overwrite: bool, site: Site
) -> Iterator[tuple[str, str, str, str]]:
    from obms.badges.bringing import bring

    return bring(old, new, wanted, origin=origin, overwrite=overwrite, site=site)


def word_of(table: str, kind: str, key: Mapping[str, object]) -> str | None:
    from obms.badges.changes import word_of

    return word_of(table, kind, key)


def newest_moment(connection: Connection) -> datetime | None:
    from obms.badges.examining import newest_moment

    return newest_moment(connection)
