"""Removing what the policy no longer keeps: at the end of a proven run, and by an operator's hand."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from obms.backup import Backups, brakes
from obms.backup.catalog import IMAGE, Backup, find, read_catalog, read_manifest
from obms.backup.lock import locked
from obms.backup.manifest import MANIFEST_END, VERDICT_END, Manifest
from obms.backup.pins import Pin, write_pin
from obms.backup.retain import Plan, Policy, Shelf, plan
from obms.backup.storage import Storage
from obms.backup.undo import SAFETY, read_record, safety_in
from obms.errors import BackupDamaged
from obms.observe import Event, Hook

REMOVING_END = ".removing"


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


def look(storage: Storage, policy: Policy, now: datetime, trusted: str | None) -> Outlook:
    """The plan for one store; touches nothing."""
    shelf = Shelf.of(read_catalog(storage, trusted), now)
    undo = _needed_by_undo(storage, shelf)
    return Outlook(
        plan=plan(shelf.backups, policy, now, undo=undo),
        shelf=shelf,
        held=brakes.why_held(shelf, brakes.read_accepted(storage)),
    )


def retain(
    storage: Storage,
    policy: Policy,
    now: datetime,
    trusted: str | None,
    notify: Hook,
    *,
    confirmed: bool = False,
) -> Retained:
    """Remove from one store what its policy no longer keeps; needs the lock, and a proven run or a word.

    Held back it removes nothing and tells so, until an operator has `confirmed` it. `trusted` is the
    public key that our manifests are signed with.
    """
    sweep_removals(storage, trusted)
    outlook = look(storage, policy, now, trusted)
    if outlook.held and not confirmed:
        facts = {"reason": outlook.held, "release": "obms backup prune --yes"}
        notify(Event(name="backup.removal_held", ok=False, facts=facts))
        return Retained(held=outlook.held)
    brakes.accept(storage, outlook.shelf, now)
    removed = []
    for backup in apply(storage, outlook.plan):
        removed.append(backup.id)
        facts = {"id": backup.id, "reason": outlook.plan.reasons[backup.file]}
        notify(Event(name="backup.removed", facts=facts))
    return Retained(removed=tuple(removed))


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
    for mark in (name for name in names if name.startswith(".") and name.endswith(REMOVING_END)):
        file = mark.removeprefix(".").removesuffix(REMOVING_END)
        if file + MANIFEST_END not in names and _is_ours(storage, mark, file, trusted):
            storage.remove(file)
            storage.remove(file + VERDICT_END)
            removed.append(file)
        storage.remove(mark)
    return removed


def _is_ours(storage: Storage, mark: str, file: str, trusted: str | None) -> bool:
    """Whether the mark is our manifest of this image: what is not shown to be ours is never removed."""
    try:
        manifest = Manifest.from_bytes(mark, b"".join(storage.get(mark)))
    except BackupDamaged:
        return False
    ours = manifest.signature_seen_by(trusted) == "ours"
    return ours and manifest.file == file and IMAGE.fullmatch(file) is not None


def _needed_by_undo(storage: Storage, shelf: Shelf) -> frozenset[str]:
    """The safety backup of the last restore; all of them where its record cannot be read."""
    try:
        safety = safety_in(read_record(storage))
    except ValueError:
        made = (backup for backup in shelf.backups if backup.manifest and backup.manifest.reason == SAFETY)
        return frozenset(backup.id for backup in made)
    return frozenset((safety,)) if safety else frozenset()


def foresee(backups: Backups) -> Outlook:
    """What `prune` would do in the backup folder."""
    return look(backups.storage, backups.policy, backups.clock(), backups.trusted)


def prune(backups: Backups) -> Retained:
    """Apply the policy to the backup folder now, by an operator's word, which releases what is held back."""
    with locked(backups):
        return retain(
            backups.storage,
            backups.policy,
            backups.clock(),
            backups.trusted,
            backups.notify,
            confirmed=True,
        )


def pin(backups: Backups, name: str, reason: str = "") -> Backup:
    """Keep a backup until it is unpinned; a second pin replaces the reason."""
    with locked(backups):
        backup = find(backups.storage, name, backups.trusted)
        write_pin(backups.storage, backup.pin_name, Pin(reason=reason, pinned_at=backups.clock()))
        return find(backups.storage, backup.file, backups.trusted)


def unpin(backups: Backups, name: str) -> Backup:
    """Leave a backup to the policy again; one that is not pinned stays as it is."""
    with locked(backups):
        backup = find(backups.storage, name, backups.trusted)
        backups.storage.remove(backup.pin_name)
        return find(backups.storage, backup.file, backups.trusted)
