"""What the stores forget: each by a policy of its own, after a copy to it that succeeded."""

from collections.abc import Iterable, Mapping
from contextlib import suppress

from obms.backup import Backups
from obms.backup.catalog import IMAGE, Backup, read_catalog
from obms.backup.pins import write_pin
from obms.backup.prune import Place, needed_by_undo
from obms.backup.retain import FOREVER, Policy, Shelf, plan
from obms.backup.stores import Keep, Store
from obms.errors import StoreRefused


def policy_of(store: Store, local: Policy) -> Policy:
    """How long a store keeps backups: forever, unless its URL says how long; the rest is as in the folder."""
    keep = store.options.keep
    if keep == Keep():
        return FOREVER
    return Policy(
        days=local.days if keep.retention_days is None else keep.retention_days,
        daily=local.daily if keep.keep_daily is None else keep.keep_daily,
        weekly=local.weekly if keep.keep_weekly is None else keep.keep_weekly,
        monthly=local.monthly if keep.keep_monthly is None else keep.keep_monthly,
        yearly=local.yearly if keep.keep_yearly is None else keep.keep_yearly,
    )


def place_of(backups: Backups, store: Store) -> Place:
    """The store with its policy. What is pinned in the backup folder, or needed by undo, stays."""
    return Place(
        storage=store.storage,
        policy=policy_of(store, backups.policy),
        trusted=backups.trusted,
        store=store.name,
        also=_needed_here(backups),
    )


def _needed_here(backups: Backups) -> Mapping[str, str]:
    shelf = Shelf.of(read_catalog(backups.storage, backups.trusted), backups.clock())
    undo = dict.fromkeys(needed_by_undo(backups.storage, shelf), "`obms restore --undo` needs it")
    return undo | {backup.id: "pinned in the backup folder" for backup in shelf.backups if backup.pin}


def unwanted(backups: Backups, store: Store, lacking: Iterable[Backup]) -> frozenset[str]:
    """The files, of those that the store lacks, that it would only be sent to forget them again."""
    place = place_of(backups, store)
    if place.policy.days is None:
        return frozenset()
    there = {backup.file: backup for backup in read_catalog(store.storage, backups.trusted)}
    missing = {backup.file: backup for backup in lacking}
    planned = plan((there | missing).values(), place.policy, backups.clock(), also=place.also)
    return frozenset(backup.file for backup in planned.remove if backup.file in missing)


def carry_pins(backups: Backups, store: Store) -> None:
    """Have each backup that is here and there pinned in the store if it is pinned here, and else not.

    So that a new machine, whose folder is empty, forgets no more than this one did.
    """
    names = set(store.storage.names())
    there = {match["id"] for match in map(IMAGE.fullmatch, names) if match}
    for backup in read_catalog(backups.storage, backups.trusted):
        if backup.id not in there:
            continue
        if backup.pin is not None and backup.pin_name not in names:
            write_pin(store.storage, backup.pin_name, backup.pin)
            store.lock(backup.pin_name, backups.clock())
        elif backup.pin is None and backup.pin_name in names:
            with suppress(StoreRefused):  # pinned for longer than asked does no harm
                store.storage.remove(backup.pin_name)
