"""Removing what the policy of a place no longer keeps, so that a kill leaves nothing untrue."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from obms.backup import brakes
from obms.backup.catalog import Backup, marked, read_catalog, read_manifest
from obms.backup.manifest import MANIFEST_END, VERDICT_END, Manifest
from obms.backup.retain import NOTHING, Plan, Policy, Shelf, plan
from obms.backup.storage import Storage
from obms.backup.undo import SAFETY, read_record, safety_in
from obms.errors import BackupDamaged, BackupNotFound, StoreRefused
from obms.observe import Event, Hook

REMOVING_END = ".removing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A storage, and the policy that its backups are kept by.

    `trusted` is the public key that our manifests are signed with; `also` are ids that stay whatever
    the policy says, each with the reason; `store` is its name, if it is not the backup folder.
    """

    storage: Storage
    policy: Policy
    trusted: str | None
    store: str | None = None
    also: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What the policy would keep and remove in one store, and why nothing may be removed now, if so."""

    plan: Plan
    shelf: Shelf
    held: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """What was removed of one store, by id, oldest first; or why nothing was."""

    removed: tuple[str, ...] = ()
    held: str | None = None


def look(place: Place, now: datetime) -> Outlook:
    """The plan for one place; touches nothing."""
    return foresee(place, read_catalog(place.storage, place.trusted), now)


def foresee(place: Place, catalog: Iterable[Backup], now: datetime) -> Outlook:
    """The same, where its catalogue has been read."""
    shelf = Shelf.of(catalog, now)
    undo = needed_by_undo(place.storage, shelf)
    planned = plan(shelf.backups, place.policy, now, undo=undo, also=place.also)
    held = brakes.why_held(shelf, brakes.read_accepted(place.storage), planned)
    return Outlook(plan=planned, shelf=shelf, held=held)


def retain(place: Place, now: datetime, notify: Hook, *, confirmed: bool = False) -> Retained:
    """Remove from one place what its policy no longer keeps; needs the lock, and a proven run or a word.

    Held back it removes nothing and tells so, until an operator has `confirmed` it. A store that
    refuses a removal is told too, and is no failure: it may keep what it holds for longer than asked.
    """
    removed: list[str] = []
    try:
        sweep_removals(place.storage, place.trusted)
        outlook = look(place, now)
        if outlook.held and not confirmed:
            return _held(place, outlook.held, notify)
        brakes.accept(place.storage, outlook.shelf, now)
        for backup in apply(place.storage, outlook.plan):
            removed.append(backup.id)
            facts = {"id": backup.id, "reason": outlook.plan.reasons[backup.file], **_where(place)}
            notify(Event(name="backup.removed", facts=facts))
    except StoreRefused as error:
        notify(Event(name="backup.removal_refused", ok=False, facts={"error": str(error), **_where(place)}))
        return Retained(removed=tuple(removed), held=str(error))
    return Retained(removed=tuple(removed))


def _held(place: Place, reason: str, notify: Hook) -> Retained:
    facts = {"reason": reason, "release": release(place.store), **_where(place)}
    notify(Event(name="backup.removal_held", ok=False, facts=facts))
    return Retained(held=reason)


def release(store: str | None) -> str:
    """What to type where removal is held back, and that is right."""
    return f"obms backup prune --store {store} --yes" if store else "obms backup prune --yes"


def _where(place: Place) -> Mapping[str, str]:
    return {"store": place.store} if place.store else NOTHING


def apply(storage: Storage, planned: Plan) -> Iterator[Backup]:
    """Remove what the plan says, oldest first, and give each one that is gone; needs the lock.

    First the manifest: from then on there is no backup, only an image that counts for nothing. The
    mark is a copy of the manifest, by which the next run knows the rest as ours, and removes it.
    """
    for backup in reversed(planned.remove):
        manifest = read_manifest(storage, backup.file)
        mark = f".{backup.file}{REMOVING_END}"
        storage.put(mark, iter((manifest.to_bytes(),)))
        for name in (backup.file + MANIFEST_END, backup.file, backup.file + VERDICT_END, mark):
            storage.remove(name)
        yield backup


def sweep_removals(storage: Storage, trusted: str | None) -> list[str]:
    """End the removals that were begun and killed; needs the lock. One that had not gone far is forgotten."""
    names = set(storage.names())
    removed = []
    for mark, file in marked(names, REMOVING_END):
        if file + MANIFEST_END not in names and _is_ours(storage, mark, file, trusted):
            storage.remove(file)
            storage.remove(file + VERDICT_END)
            removed.append(file)
        with suppress(StoreRefused):  # a mark that may not be removed does no harm
            storage.remove(mark)
    return removed


def _is_ours(storage: Storage, mark: str, file: str, trusted: str | None) -> bool:
    """Whether the mark is our manifest of this image: what is not shown to be ours is never removed."""
    try:
        manifest = Manifest.from_bytes(mark, b"".join(storage.get(mark)))
    except (BackupDamaged, BackupNotFound):  # another server, of the same key, ended the removal
        return False
    return manifest.signature_seen_by(trusted) == "ours" and manifest.file == file


def needed_by_undo(storage: Storage, shelf: Shelf) -> frozenset[str]:
    """The safety backup of the last restore; all of them where its record cannot be read."""
    try:
        safety = safety_in(read_record(storage))
    except ValueError:
        made = (backup for backup in shelf.backups if backup.manifest and backup.manifest.reason == SAFETY)
        return frozenset(backup.id for backup in made)
    return frozenset((safety,)) if safety else frozenset()
