"""Copies of proven backups in the stores: sent, read back, compared, and only then committed."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from obms.backup import Backups
from obms.backup.catalog import read_catalog
from obms.backup.create import BEGUN_END, Meter
from obms.backup.forget import carry_pins, place_of, unwanted
from obms.backup.manifest import MANIFEST_END, VERDICT_END, Manifest
from obms.backup.prune import retain
from obms.backup.storage import Storage
from obms.backup.stores import Store
from obms.backup.trust import Accepted
from obms.databases import Chunks
from obms.errors import (
    AlreadyThere,
    BackupDamaged,
    BackupNotFound,
    CopyFailed,
    StorageFailed,
    StoreRefused,
)
from obms.observe import Event
from obms.retrying import tries

T = TypeVar("T")
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What a run brought to one store. `error` is None, or what kept it from holding every proven backup.

    `removed` are those that its policy does not keep, and `held` or `removal_error` why they still are there.
    """

    store: str
    ok: bool
    seconds: float
    bytes: int
    copied: tuple[str, ...] = ()
    error: str | None = None
    removed: tuple[str, ...] = ()
    held: str | None = None
    removal_error: str | None = None


def copy_to_stores(backups: Backups) -> tuple[Copy, ...]:
    """Bring every proven backup to each store that lacks it, the newest first; needs the lock.

    A store that fails is told and left for the next run, and the others are served.
    """
    return tuple(_serve(backups, store) for store in backups.stores)


def require_copied(copies: tuple[Copy, ...]) -> None:
    """CopyFailed unless each store holds what it should; StorageFailed where it could not remove the rest."""
    failed = [_told(copy, copy.error) for copy in copies if copy.error is not None]
    if failed:
        raise CopyFailed(detail="; ".join(failed))
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
    errors: list[str] = []
    try:
        owed = _patiently(store, lambda: list(_owed(backups, store)))
        _sweep(backups, store)
        for manifest in owed:
            try:
                _patiently(store, partial(_copy, backups, store, manifest))
                copied.append(manifest)
            except (BackupDamaged, BackupNotFound, AlreadyThere) as error:
                errors.append(str(error))  # of this backup alone: the others go on
        _patiently(store, partial(carry_pins, backups, store))
    except StorageFailed as error:
        errors.append(str(error))
    copy = Copy(
        store=store.name,
        ok=not errors,
        seconds=round(time.monotonic() - started, 3),
        bytes=sum(manifest.bytes for manifest in copied),
        copied=tuple(manifest.id for manifest in copied),
        error="; ".join(errors) or None,
    )
    facts = {"store": copy.store, "copied": len(copied), "bytes": copy.bytes, "seconds": copy.seconds}
    backups.notify(Event(name="backup.copied", ok=copy.ok, facts=facts | {"error": copy.error}))
    return copy


def _sweep(backups: Backups, store: Store) -> None:
    """Remove what a killed run left there. A store that does not allow it holds some waste, and is told."""
    try:
        store.storage.sweep()
    except StoreRefused as error:
        facts = {"store": store.name, "error": str(error)}
        backups.notify(Event(name="backup.copy_unswept", ok=False, facts=facts))


def _owed(backups: Backups, store: Store) -> Iterator[Manifest]:
    """The proven backups that the store lacks, as a whole or in part, and would keep, newest first."""
    there = set(store.storage.names())
    # A server without SECRET_KEY cannot sign: its proofs are believed as far as copying goes.
    believed = Accepted(not_signed=backups.trusted is None)
    lacking = [
        backup
        for backup in read_catalog(backups.storage, backups.trusted)
        if not _files(backup.file) <= there and backup.counts_as_proven(believed)
    ]
    refused = unwanted(backups, store, lacking) if lacking else frozenset()
    for backup in lacking:
        if backup.manifest is not None and backup.file not in refused:
            yield backup.manifest


def lacked(backups: Backups) -> Mapping[str, str]:
    """The proven backups that a store lacks and would keep, by id, with that store."""
    return {manifest.id: store.name for store in backups.stores for manifest in _owed(backups, store)}


def _files(image: str) -> set[str]:
    return {image, image + MANIFEST_END, image + VERDICT_END}


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

    A mark with the manifest's fingerprint goes before: of two servers that share a prefix by mistake
    and make a backup in the same second, one is refused and nothing is overwritten.
    """
    local, storage, file, now = backups.storage, store.storage, manifest.file, backups.clock()
    there = set(storage.names())
    mark = f".{file}{BEGUN_END}"
    if file not in there or not _is_whole(store, manifest):
        if file in there and mark not in there:
            raise AlreadyThere(name=file, store=store.name)
        _put_new(store, mark, manifest.fingerprint.encode())
        if file + MANIFEST_END in there:
            _put_new(store, file + MANIFEST_END, _read(local, file + MANIFEST_END))
        image = _paced(_checked(local.get(file), manifest), store.options.rate_limit)
        storage.put(file, image, replace=file in there)
        if not _is_whole(store, manifest):
            storage.remove(file)
            raise StorageFailed(detail=f"{store.name}: {file} is read back other than it was sent")
    store.lock(file, now)
    _put_new(store, file + MANIFEST_END, _read(local, file + MANIFEST_END))
    store.lock(file + MANIFEST_END, now)
    storage.put(file + VERDICT_END, iter((_read(local, file + VERDICT_END),)))
    store.lock(file + VERDICT_END, now)
    with suppress(StoreRefused):  # a mark that may not be removed does no harm
        storage.remove(mark)


def _is_whole(store: Store, manifest: Manifest) -> bool:
    """Whether what the store gives back is what the manifest says: its own word for it is not asked."""
    meter = Meter()
    for _ in _paced(meter.measure(store.storage.get(manifest.file)), store.options.rate_limit):
        continue
    return (meter.bytes, meter.sha256) == (manifest.bytes, manifest.sha256)


def _put_new(store: Store, name: str, data: bytes) -> None:
    """Put a small object; the same one may be there, another may not."""
    try:
        store.storage.put(name, iter((data,)), replace=False)
    except AlreadyThere:
        if _read(store.storage, name) != data:
            raise


def _read(storage: Storage, name: str) -> bytes:
    return b"".join(storage.get(name))


def _checked(chunks: Chunks, manifest: Manifest) -> Chunks:
    """The same bytes; BackupDamaged at their end, before they are published, if they are not the image's."""
    sha256, size = hashlib.sha256(), 0
    for chunk in chunks:
        sha256.update(chunk)
        size += len(chunk)
        yield chunk
    if (size, sha256.hexdigest()) != (manifest.bytes, manifest.sha256):
        raise BackupDamaged(name=manifest.file, detail="it is not what its manifest says, and was not copied")


def _paced(chunks: Chunks, rate: int | None) -> Chunks:
    """The same bytes, on average no faster than `rate` bytes a second."""
    started, passed = time.monotonic(), 0
    for chunk in chunks:
        yield chunk
        passed += len(chunk)
        if rate:
            time.sleep(max(0.0, passed / rate - (time.monotonic() - started)))
