"""Which backups stay and which go: a plan that touches nothing, with a reason for each."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from types import MappingProxyType

from obms.backup.catalog import Backup

Kept = Iterator[tuple[Backup, str]]
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long backups are kept: each one that any rule keeps.

    `days` is by age; 0 leaves it to the other rules, None removes nothing at all. The others keep
    the newest proven one of each of so many days, weeks, months and years that have one, in UTC.
    """

    days: int | None = 7
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0


FOREVER = Policy(days=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What stays and what goes, newest first, and why, by file."""

    keep: tuple[Backup, ...]
    remove: tuple[Backup, ...]
    reasons: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The backups of one store in the order in which they were made.

    A moment is when one was made, as far as that can be believed; None when it lies ahead of the clock.
    """

    backups: tuple[Backup, ...]
    moments: Mapping[str, datetime | None]
    newest: Mapping[str, Backup]
    now: datetime

    @classmethod
    def of(cls, backups: Iterable[Backup], now: datetime) -> "Shelf":
        ordered = tuple(sorted(backups, key=lambda backup: backup.place))
        newest = {backup.database: backup for backup in ordered if backup.proven}
        moments = {backup.file: _moment(backup, now) for backup in ordered}
        return cls(backups=ordered, moments=moments, newest=newest, now=now)

    def age(self, backup: Backup) -> timedelta:
        """How much older it is than the newest proven one of its kind.

        Not than now: while no backup succeeds, and when the clock runs ahead, none gets older.
        """
        newest = self.newest[backup.database]
        return (self.moments[newest.file] or self.now) - (self.moments[backup.file] or self.now)


def plan(
    backups: Iterable[Backup],
    policy: Policy,
    now: datetime,
    *,
    undo: Collection[str] = frozenset(),
    also: Mapping[str, str] = NOTHING,
) -> Plan:
    """What the policy keeps and removes of one store's backups.

    `undo` are the ids that undo needs; `also` are others that are kept, each with the reason.
    """
    shelf = Shelf.of(backups, now)
    kept: dict[str, str] = {}
    told = ((backup, also[backup.id]) for backup in shelf.backups if backup.id in also)
    for backup, reason in chain(_kept_always(shelf, undo), _kept_by_policy(shelf, policy), told):
        kept.setdefault(backup.file, f"kept: {reason}")
    newest_first = shelf.backups[::-1]
    removed = f"removed: {_too_old(policy)}"
    return Plan(
        keep=tuple(backup for backup in newest_first if backup.file in kept),
        remove=tuple(backup for backup in newest_first if backup.file not in kept),
        reasons={backup.file: kept.get(backup.file, removed) for backup in newest_first},
    )


def _moment(backup: Backup, now: datetime) -> datetime | None:
    """The later of its own date and the one in its name, which is right where the clock was behind."""
    told = (backup.created_at, backup.named_at)
    return max((moment for moment in told if moment is not None and moment <= now), default=None)


def _kept_always(shelf: Shelf, undo: Collection[str]) -> Kept:
    for backup in shelf.backups:
        newest = shelf.newest.get(backup.database)
        if not backup.ours:
            yield backup, _not_ours(backup)
        elif newest is None:
            yield backup, "none of its kind is proven"
        elif backup is newest:
            yield backup, "the newest proven"
        elif backup.place > newest.place:
            yield backup, "younger than the newest proven"
        elif backup.pin is not None:
            yield backup, f"pinned ({backup.pin.reason})" if backup.pin.reason else "pinned"
        elif backup.id in undo:
            yield backup, "`obms restore --undo` needs it"
        elif shelf.moments[backup.file] is None:
            yield backup, "its date lies ahead of the clock"


def _not_ours(backup: Backup) -> str:
    if backup.manifest is not None:
        return "its manifest is not signed by this server, so that it may not be ours"
    if backup.problem:
        return "its manifest cannot be believed, so that it may not be ours"
    return "it has no manifest, so that it may not be ours"


def _kept_by_policy(shelf: Shelf, policy: Policy) -> Kept:
    if policy.days is None:
        yield from ((backup, "retention is off") for backup in shelf.backups)
        return
    for backup in shelf.backups:
        if backup.database in shelf.newest and shelf.age(backup) <= timedelta(days=policy.days):
            yield backup, f"not older than {_days(policy.days)}"
    for name, period in PERIODS.items():
        for kind in shelf.newest:
            yield from _kept_by_period(shelf, kind, name, period, getattr(policy, name))


def _kept_by_period(
    shelf: Shelf, kind: str, name: str, period: Callable[[datetime], object], count: int
) -> Kept:
    """The newest proven one of each of the last `count` periods that have one."""
    last: dict[object, Backup] = {}
    for backup in reversed(shelf.backups):
        moment = shelf.moments[backup.file]
        if backup.database == kind and backup.proven and moment is not None:
            last.setdefault(period(moment.astimezone(UTC)), backup)
    for number, backup in enumerate(islice(last.values(), count), 1):
        yield backup, f"{name} {number} of {count}"


def _too_old(policy: Policy) -> str:
    return f"older than {_days(policy.days)}" if policy.days else "older than the newest proven"


def _days(count: int) -> str:
    return f"{count} day{'' if count == 1 else 's'}"


PERIODS: Mapping[str, Callable[[datetime], object]] = {
    "daily": lambda moment: moment.date(),
    "weekly": lambda moment: moment.isocalendar()[:2],
    "monthly": lambda moment: (moment.year, moment.month),
    "yearly": lambda moment: moment.year,
}
