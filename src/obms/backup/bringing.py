"""Encrypting anew what a store holds: what it alone holds is brought here for that, one at a time."""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from obms.backup import Backups
from obms.backup.catalog import IMAGE, Backup, find, id_of, marked, pin_name_of, read_catalog, read_manifest
from obms.backup.copies import checked, copy_to_stores
from obms.backup.counters import REFUSALS, read_counters
from obms.backup.create import BEGUN_END, sweep_uncommitted
from obms.backup.lock import is_held, locked
from obms.backup.manifest import MANIFEST_END, VERDICT_END, Manifest
from obms.backup.one_backup import OneBackup
from obms.backup.pace import paced
from obms.backup.pins import write_pin
from obms.backup.prove import require_space
from obms.backup.prune import sweep_removals
from obms.backup.rekey import (
    Rekeyed,
    Wanted,
    is_as,
    remove_old_forms,
    renew,
    tell,
    trusted_manifest,
    wanted_by,
)
from obms.backup.rereading import is_whole
from obms.backup.source import hints_for
from obms.backup.stores import Keep, Store, Stores
from obms.backup.superseded import retire, sweep_superseded
from obms.errors import (
    AlreadyThere,
    BackupDamaged,
    BackupNotFound,
    CopyFailed,
    NotProven,
    ObmsError,
    StorageFailed,
)
from obms.observe import no_event

BROUGHT_END = ".brought"  # of the mark of what was brought here, and is to go again
ROOM = 2.25  # images: its own, and the new form, which may be compressed for speed and a sixth larger
LOOK_SECONDS = 1.0
# A schedule that was refused looks again each half minute, and then starts a process.
TURN_SECONDS = 45.0
AGAIN = "It stays there as it was. The same command, once that is mended, goes on with it."

Wait = Callable[[float], object]


def rekey_in_store(
    backups: Backups,
    store: Store,
    names: Sequence[str],
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    wait: Wait = time.sleep,
) -> list[Rekeyed]:
    """Encrypt anew these backups of a store, or all that are to be; one that cannot be stays there as it is.

    What BACKUP_DIR lacks is brought, and removed here again once the store holds the new form whole. The
    lock is held for one backup at a time, and a run that was refused meanwhile has its turn before the
    next. Killed at any moment it leaves a whole form of each in the store; a second call ends it, and
    removes here what the first one brought.
    """
    wanted = wanted_by(backups, add, remove)
    with locked(backups):
        sweep_uncommitted(backups)
        sweep_superseded(backups)
        sweep_removals(store.storage, backups.trusted)
        asked = {backup.id: backup for backup in _asked(backups, store, wanted, names)}
    refused, done = _refusals(backups), []
    for backup in asked.values():
        refused = _let_in(backups, refused, wait)
        done.append(_tried(backups, store, wanted, backup))
    if left := list(marked(backups.storage.names(), BROUGHT_END)):  # by a call that was killed
        with suppress(ObmsError), locked(backups):
            for _, file in left:
                _take_away(backups, store, file)
    tell(backups, done, add, remove)
    return done


def _asked(backups: Backups, store: Store, wanted: Wanted, names: Sequence[str]) -> Iterator[Backup]:
    if names:
        for name in names:
            with hints_for(f"{store.name}/{name}"):
                yield find(store.storage, name, backups.trusted)
        return
    for backup in read_catalog(store.storage, backups.trusted):
        if backup.manifest is None:
            if backup.state == "damaged":  # which is told
                yield backup
        elif (backup.ours or backup.proven) and not is_as(wanted, backup.manifest):
            yield backup


def _refusals(backups: Backups) -> object:
    return read_counters(backups.folder).get(REFUSALS)


def _let_in(backups: Backups, refused: object, wait: Wait) -> object:
    """Wait until whoever is at work has ended, and one that was refused since has had time to begin."""
    left = TURN_SECONDS if _refusals(backups) != refused else 0.0
    while (held := is_held(backups)) or left > 0:
        left = 0.0 if held else left - LOOK_SECONDS
        wait(LOOK_SECONDS)
    return _refusals(backups)


def _tried(backups: Backups, store: Store, wanted: Wanted, backup: Backup) -> Rekeyed:
    try:
        with locked(backups):
            return _rekeyed(backups, store, wanted, backup.id)
    except ObmsError as error:
        return Rekeyed(id=backup.id, file=backup.file, changed=False, error=error)


def _rekeyed(backups: Backups, store: Store, wanted: Wanted, id: str) -> Rekeyed:
    there, trusted = OneBackup(store.storage, id), backups.trusted
    if here := next(read_catalog(OneBackup(backups.storage, id), trusted), None):
        _require_proven(here, "BACKUP_DIR")
        return _exchanged(backups, store, wanted, id)
    forms = list(read_catalog(there, trusted))
    found = next((form for form in forms if form.proven), next(iter(forms), None))
    if found is None:
        raise BackupNotFound(name=id)
    old = trusted_manifest(there, found)
    if is_as(wanted, old):
        return Rekeyed(id=id, file=old.file, changed=False, replaced=_replaced(backups, store, wanted, old))
    wanted(old)  # that somebody is left who could open it, before all of it is read
    _require_proven(found, store.name)
    with _brought(backups, store, found, old):
        return replace(_exchanged(backups, store, wanted, id), brought=True)


def _require_proven(backup: Backup, place: str) -> None:
    if not backup.proven:
        at = f" --store {shlex.quote(place)}" if "://" in place else ""
        raise NotProven(
            name=backup.file,
            detail=f"in {place} it is {backup.state}, and a store is sent proven ones only",
            hint=f"It stays there as it was. `obms backup verify {backup.file}{at}` judges it again.",
        )


def _exchanged(backups: Backups, store: Store, wanted: Wanted, id: str) -> Rekeyed:
    """Encrypt anew what is here, send that, and then remove the old form in the store."""
    here, there = OneBackup(backups.storage, id), OneBackup(store.storage, id)
    old = find(here, id, backups.trusted)
    new = find(here, renew(backups, wanted, old, there.names()), backups.trusted)
    # As much as it is to hold of this one: neither the others nor what its policy is are asked.
    alone = replace(store, options=replace(store.options, scrub=0, keep=Keep()))
    sending = replace(backups, storage=here, stores=Stores(configured=(alone,)), notify=no_event)
    for copy in copy_to_stores(sending):
        if copy.error:
            raise CopyFailed(detail=copy.error.rstrip("."), hint=" ".join(filter(None, (copy.hint, AGAIN))))
    assert new.manifest is not None
    gone = _replaced(backups, store, wanted, new.manifest)
    return Rekeyed(id=id, file=new.file, changed=new.file != old.file, replaced=gone)


def _replaced(backups: Backups, store: Store, wanted: Wanted, new: Manifest) -> tuple[str, ...]:
    """Remove the old forms in the store, if this new one stands there, read back; those that are gone."""
    there = OneBackup(store.storage, new.id)
    if read_manifest(there, new.file) != new:
        raise AlreadyThere(name=new.file, store=store.name, hint=AGAIN)
    gone = remove_old_forms(replace(store, storage=there), backups.trusted)
    forms = read_catalog(there, backups.trusted)
    left = [form.file for form in forms if form.ours and form.manifest and not is_as(wanted, form.manifest)]
    if left:
        raise StorageFailed(
            detail=f"{store.name} still holds {', '.join(left)} beside {new.file}", hint=AGAIN
        )
    return gone


@contextmanager
def _brought(backups: Backups, store: Store, found: Backup, old: Manifest) -> Iterator[None]:
    """Have it here as any other backup for as long as this lasts, or longer if the store has it no more."""
    _require_key(backups, store, old)
    require_space(backups.folder, int(ROOM * old.bytes))
    try:
        _bring(backups, store, found, old)
        yield
    except ObmsError:
        with suppress(ObmsError):  # what failed first is told, and what is left the next call removes
            _take_away(backups, store, old.file)
        raise
    _take_away(backups, store, old.file, stands=True)


def _require_key(backups: Backups, store: Store, old: Manifest) -> None:
    """IdentityMissing before all of it is read, where no key at hand opens it."""
    with suppress(BackupDamaged):  # which is told better when it is read
        next(backups.chain.decode(store.storage.get(old.file), old.codecs), None)


def _bring(backups: Backups, store: Store, found: Backup, old: Manifest) -> None:
    """As `create` publishes one: the mark, the image, what is said of it, and last the manifest."""
    storage, mark = backups.storage, f".{old.file}{BEGUN_END}"
    storage.put(f".{old.file}{BROUGHT_END}", iter(()))
    storage.put(mark, iter(()))
    image = paced(store.storage.get(old.file), store.options.rate_limit)
    storage.put(old.file, checked(image, old), replace=False, size=old.bytes)
    assert found.verdict is not None
    storage.put(old.file + VERDICT_END, iter((found.verdict.to_bytes(),)))
    # A run that found none here would unpin it there.
    if found.pin is not None:
        write_pin(storage, found.pin_name, found.pin)
    storage.put(old.file + MANIFEST_END, iter((old.to_bytes(),)))
    storage.remove(mark)


def _take_away(backups: Backups, store: Store, brought: str, *, stands: bool = False) -> None:
    """Remove what was brought as this file, in all its forms, if the store has one that is whole.

    That is read, unless it is known that one `stands`: what is here may be the last copy.
    """
    here = OneBackup(backups.storage, id_of(brought))
    if not stands and _is_committed(here, backups.trusted) and not _is_held(store, here.id, backups.trusted):
        return
    images = (name for name in here.names() if IMAGE.fullmatch(name))
    *others, last = list(images) or [brought]
    for file in others:
        retire(backups, file)
    retire(backups, last, pin_name_of(last), f".{brought}{BROUGHT_END}")


def _is_committed(here: OneBackup, trusted: str | None) -> bool:
    return any(form.manifest for form in read_catalog(here, trusted))


def _is_held(store: Store, id: str, trusted: str | None) -> bool:
    there = OneBackup(store.storage, id)
    manifests = (form.manifest for form in read_catalog(there, trusted) if form.proven and form.manifest)
    return any(is_whole(there, manifest, store.options.rate_limit) for manifest in manifests)
