"""Copies of proven backups in the stores: sent, read back, compared, and only then committed."""

import hashlib
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from obms.backup import Backups
from obms.backup.catalog import IMAGE, Backup, read_catalog, read_verdict
from obms.backup.counters import complete_at
from obms.backup.create import BEGUN_END
from obms.backup.forget import carry_pins, place_of, unwanted
from obms.backup.manifest import MANIFEST_END, VERDICT_END, Manifest
from obms.backup.pace import paced
from obms.backup.prove import prove
from obms.backup.prune import retain
from obms.backup.rereading import is_whole, reread
from obms.backup.storage import Storage
from obms.backup.stores import Store
from obms.backup.trust import Accepted
from obms.databases import Chunks
from obms.errors import (
    AlreadyThere,
    BackupDamaged,
    BackupNotFound,
    CopyFailed,
    IdentityMissing,
    ObmsError,
    StorageFailed,
    StoreRefused,
    Unreadable,
)
from obms.observe import Event
from obms.retrying import tries

T = TypeVar("T")
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What a run brought to one store. `error` is None, or what kept it from holding every proven backup.

    `hint` is what to do about that, where waiting is not enough. `removed` are those that its policy does
    not keep, and `held` or `removal_error` why they still are there.
    """

    store: str
    ok: bool
    seconds: float
    bytes: int
    copied: tuple[str, ...] = ()
    error: str | None = None
    hint: str | None = None
    removed: tuple[str, ...] = ()
    held: str | None = None
    removal_error: str | None = None


def copy_to_stores(backups: Backups) -> tuple[Copy, ...]:
    """Bring every proven backup to each store that lacks it; needs the lock.

    A store that fails is told and left for the next run, and the others are served.
    """
    return tuple(_serve(backups, store) for store in backups.stores)


def require_copied(copies: tuple[Copy, ...]) -> None:
    """CopyFailed unless each store holds what it should; StorageFailed where it could not remove the rest."""
    failed = [_told(copy, copy.error) for copy in copies if copy.error is not None]
    if failed:
        hints = dict.fromkeys(copy.hint for copy in copies if copy.hint)
        raise CopyFailed(detail="; ".join(failed), hint=" ".join(hints) or None)
    unremoved = [_told(copy, copy.removal_error) for copy in copies if copy.removal_error is not None]
    if unremoved:
        raise StorageFailed(detail="; ".join(unremoved), hint="The next run removes what is too old.")


def _told(copy: Copy, error: str) -> str:
    error = error.rstrip(".")
    return error if copy.store in error else f"{copy.store}: {error}"


def forget_in_stores(backups: Backups, copies: tuple[Copy, ...]) -> tuple[Copy, ...]:
    """Remove from each store what its policy does not keep, and tell it in its copy.

    Needs the lock, and a proven run. A store that has not got all that it should have forgets nothing.
    """
    stores = {store.name: store for store in backups.stores}
    return tuple(_forget(backups, stores[copy.store], copy) if copy.ok else copy for copy in copies)


def _forget(backups: Backups, store: Store, copy: Copy) -> Copy:
    place = place_of(backups, store)
    if place.policy.days is None:
        return copy
    try:
        done = retain(place, backups.clock(), backups.notify)
    except StorageFailed as error:
        facts = {"store": store.name, "error": str(error)}
        backups.notify(Event(name="backup.removal_failed", ok=False, facts=facts))
        return replace(copy, removal_error=str(error))
    return replace(copy, removed=done.removed, held=done.held)


def _serve(backups: Backups, store: Store) -> Copy:
    started = time.monotonic()
    copied: list[Manifest] = []
    errors: list[ObmsError] = []
    try:
        _send_owed(backups, store, copied, errors)
        rotten = _reread(backups, store, {manifest.file for manifest in copied})
        if rotten:
            errors += rotten
            _send_owed(backups, store, copied, errors)
        _patiently(store, partial(carry_pins, backups, store))
    except StorageFailed as error:
        errors.append(error)
    copy = Copy(
        store=store.name,
        ok=not errors,
        seconds=round(time.monotonic() - started, 3),
        bytes=sum(manifest.bytes for manifest in copied),
        copied=tuple(manifest.id for manifest in copied),
        error="; ".join(dict.fromkeys(map(str, errors))) or None,
        hint=next((error.hint for error in errors if _stays(error)), None),
    )
    facts = {"store": copy.store, "copied": len(copied), "bytes": copy.bytes, "seconds": copy.seconds}
    backups.notify(Event(name="backup.copied", ok=copy.ok, facts=facts | {"error": copy.error}))
    return copy


def _send_owed(backups: Backups, store: Store, copied: list[Manifest], errors: list[ObmsError]) -> None:
    """Send what the store lacks, and tell which; what fails of one backup alone stops no other.

    Those that are there in part come first: where a run's time is not enough for one image, the newest
    would always be another one, and none would ever be whole.
    """
    owed = _patiently(store, lambda: list(_owed(backups, store)))
    begun = _patiently(store, lambda: _sweep(backups, store, owed))
    for manifest in sorted(owed, key=lambda manifest: manifest.file not in begun):
        try:
            _patiently(store, partial(_copy, backups, store, manifest))
            copied.append(manifest)
        except (BackupDamaged, BackupNotFound, AlreadyThere, Unreadable) as error:
            errors.append(error)
            if isinstance(error, BackupDamaged):
                _judge_again(backups, manifest)


def _reread(backups: Backups, store: Store, sent: set[str]) -> Sequence[ObmsError]:
    """Read older copies again, as many as the store's URL says; what was sent now was read back."""
    turns = range(store.options.scrub)
    found = [_patiently(store, partial(reread, backups, sent, store)) for _ in turns]
    return [error for error in found if error is not None]


def _judge_again(backups: Backups, manifest: Manifest) -> None:
    """What is damaged here must not count any longer, nor be owed to the stores by each run to come."""
    with suppress(IdentityMissing):  # then its bytes were read whole this time
        prove(backups, manifest, level="intact")


def _stays(error: ObmsError) -> bool:
    """Whether waiting is not enough."""
    return isinstance(error, StoreRefused) or not isinstance(error, StorageFailed)


def _sweep(backups: Backups, store: Store, owed: Sequence[Manifest] = ()) -> frozenset[str]:
    """Remove what a killed run left there of our backups: another server may be at work beside.

    What is there of those that are owed stays: the files that are told. A store that does not allow it
    holds some waste, and is told.
    """
    ids = {match["id"] for match in map(IMAGE.fullmatch, backups.storage.names()) if match}
    coming = {manifest.file for manifest in owed}
    try:
        return store.storage.sweep(lambda name: any(id in name for id in ids), coming=coming)
    except StoreRefused as error:
        facts = {"store": store.name, "error": str(error)}
        backups.notify(Event(name="backup.copy_unswept", ok=False, facts=facts))
        return frozenset()


def _owed(backups: Backups, store: Store) -> Iterator[Manifest]:
    """The proven backups that the store lacks, as a whole or in part, and would keep, newest first."""
    there = store.storage.sizes()
    complete = complete_at(backups.folder, store.name)
    # A server without SECRET_KEY cannot sign: its proofs are believed as far as copying goes.
    believed = Accepted(not_signed=backups.trusted is None)
    lacking = [
        backup
        for backup in read_catalog(backups.storage, backups.trusted)
        if backup.manifest is not None
        and backup.counts_as_proven(believed)
        and not _is_held(store, backup, there, complete)
    ]
    refused = unwanted(backups, store, lacking) if lacking else frozenset()
    for backup in lacking:
        if backup.manifest is not None and backup.file not in refused:
            yield backup.manifest


def _is_held(store: Store, backup: Backup, there: Mapping[str, int], complete: float) -> bool:
    """Whether the store holds this very backup, as far as can be told without reading its image.

    A name is not enough: another server's backup of the same second has the same. What was there when
    the store was last `complete` is compared by the sizes of its listing, which is no request more.
    """
    manifest, verdict = backup.manifest, backup.verdict
    assert manifest is not None
    assert verdict is not None
    name, mine = manifest.file + MANIFEST_END, manifest.to_bytes()
    sizes = {manifest.file: manifest.bytes, name: len(mine)}
    if manifest.file + VERDICT_END not in there or any(there.get(each) != sizes[each] for each in sizes):
        return False
    if there[manifest.file + VERDICT_END] != len(verdict.to_bytes()) and _is_bad(store, manifest):
        return False
    return manifest.ended_at.timestamp() <= complete or _read(store.storage, name) == mine


def _is_bad(store: Store, manifest: Manifest) -> bool:
    """Whether the copy was judged there, and not found good; what is no verdict vouches for nothing."""
    verdict = read_verdict(store.storage, manifest)
    return verdict is None or verdict.outcome != "good"


def lacked(backups: Backups) -> Mapping[str, str]:
    """The proven backups that a store lacks and would keep, by id, with that store."""
    return {manifest.id: store.name for store in backups.stores for manifest in _owed(backups, store)}


def _patiently(store: Store, work: Callable[[], T]) -> T:
    """Try again after pauses that grow; a refusal, or damage, does not pass by waiting."""
    for attempt in tries(
        lambda error: isinstance(error, StorageFailed) and not isinstance(error, StoreRefused),
        attempts=store.options.attempts,
        timeout=None,
        first_pause=FIRST_PAUSE,
        longest_pause=LONGEST_PAUSE,
    ):
        with attempt:
            done = work()
    return done


def _copy(backups: Backups, store: Store, manifest: Manifest) -> None:
    """The image, read back; the manifest, which commits it; the verdict.

    A name that is taken by something else is left as it is. What our own manifest commits is ours,
    and is mended.
    """
    storage, file, now = store.storage, manifest.file, backups.clock()
    mine, there = manifest.to_bytes(), set(storage.names())
    kept = _read(storage, file + MANIFEST_END) if file + MANIFEST_END in there else None
    whole = file in there and is_whole(storage, manifest, store.options.rate_limit)
    ours = whole or kept == mine or (file in there and _is_beginning(backups, store, file))
    if kept not in (None, mine) and not (ours and _is_junk(kept)):
        raise AlreadyThere(name=file + MANIFEST_END, store=store.name)
    if not whole:
        _send(backups, store, manifest, there, ours=ours)
    _lock_image(store, manifest, now, committed=kept is not None)
    if kept != mine:
        _put_new(store, file + MANIFEST_END, mine, replace=kept is not None)
    store.lock(file + MANIFEST_END, now)
    storage.put(file + VERDICT_END, backups.storage.get(file + VERDICT_END))
    store.lock(file + VERDICT_END, now)
    with suppress(StoreRefused):  # a mark that may not be removed does no harm
        storage.remove(_mark_of(file))


def _is_beginning(backups: Backups, store: Store, file: str) -> bool:
    """Whether the image there is ours as far as it goes: it was cut off, whatever became of its manifest."""
    here, there = backups.storage.get(file), store.storage.get(file)
    rest = b""
    for chunk in paced(there, store.options.rate_limit):
        while len(rest) < len(chunk) and (more := next(here, b"")):
            rest += more
        if not rest.startswith(chunk):
            return False
        rest = rest[len(chunk) :]
    return True


def _is_junk(kept: bytes | None) -> bool:
    """Whether this is nobody's manifest: beside our image, read whole, it is ours and damaged."""
    try:
        Manifest.from_bytes("", kept or b"")
    except BackupDamaged:
        return True
    return False


def _send(backups: Backups, store: Store, manifest: Manifest, there: Container[str], *, ours: bool) -> None:
    """Send the image, and read it back; what lies there is replaced if it is `ours`, or a mark says so.

    A mark with the manifest's fingerprint goes before: of two servers that share a prefix, and have
    other bytes under one name, one is refused and nothing is overwritten. So another's mark says nothing.
    """
    storage, file, mark = store.storage, manifest.file, _mark_of(manifest.file)
    if file in there and not ours and not (mark in there and _is_marked(store, manifest)):
        raise AlreadyThere(name=file, store=store.name)
    _put_new(store, mark, manifest.fingerprint.encode())
    rate, image = store.options.rate_limit, checked(backups.storage.get(file), manifest)
    taken = None
    try:
        storage.put(file, image, replace=file in there, size=manifest.bytes, rate=rate)
    except AlreadyThere as error:  # ours, where the answer that said so was lost
        taken = error
    if not is_whole(storage, manifest, rate):
        storage.remove(mark if taken else file)  # the mark would say that what lies there is ours
        raise taken or StorageFailed(detail=f"{store.name}: {file} is read back other than it was sent")


def _is_marked(store: Store, manifest: Manifest) -> bool:
    try:
        return _read(store.storage, _mark_of(manifest.file)) == manifest.fingerprint.encode()
    except BackupNotFound:  # who put it has committed the image since
        return False


def _lock_image(store: Store, manifest: Manifest, now: datetime, *, committed: bool) -> None:
    """A store that cannot lock gets no image: without a manifest it would be waste, and more each run."""
    try:
        store.lock(manifest.file, now)
    except StoreRefused:
        if not committed:
            store.storage.remove(manifest.file)
            store.storage.remove(_mark_of(manifest.file))
        raise


def _mark_of(file: str) -> str:
    return f".{file}{BEGUN_END}"


def _put_new(store: Store, name: str, data: bytes, *, replace: bool = False) -> None:
    """Put a small object; the same one may be there, another may not, unless it is to be replaced."""
    try:
        store.storage.put(name, iter((data,)), replace=replace)
    except AlreadyThere:
        if _read(store.storage, name) != data:
            raise


def _read(storage: Storage, name: str) -> bytes:
    return b"".join(storage.get(name))


def checked(chunks: Chunks, manifest: Manifest) -> Chunks:
    """The same bytes; BackupDamaged at their end, before they are published, if they are not the image's."""
    sha256, size = hashlib.sha256(), 0
    for chunk in chunks:
        sha256.update(chunk)
        size += len(chunk)
        yield chunk
    if (size, sha256.hexdigest()) != (manifest.bytes, manifest.sha256):
        raise BackupDamaged(name=manifest.file, detail="it is not what its manifest says, and was not copied")
