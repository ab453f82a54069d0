"""Encrypting backups anew, to other recipients: the new image is read back before the old one goes."""

import shlex
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from obms.backup import Backups
from obms.backup.catalog import Backup, find, next_name, read_catalog
from obms.backup.codecs import Chain
from obms.backup.copies import copy_to_stores, require_copied
from obms.backup.create import BEGUN_END, Meter, sweep_uncommitted
from obms.backup.encryption import (
    changed_recipients,
    encrypting_to,
    read_recipient,
    recipients_of,
    with_own_key,
)
from obms.backup.lock import locked
from obms.backup.manifest import MANIFEST_END, VERDICT_END, Manifest
from obms.backup.prove import spool
from obms.backup.prune import apply, sweep_removals
from obms.backup.recipients import remember_openers
from obms.backup.rereading import is_whole
from obms.backup.retain import Plan
from obms.backup.source import require_whole
from obms.backup.storage import Storage
from obms.backup.stores import Store, Stores
from obms.backup.superseded import retire, superseded, sweep_superseded
from obms.backup.trust import check_signature, refusal
from obms.databases import Chunks
from obms.errors import BackupDamaged, ConfigurationError, ObmsError, StorageFailed
from obms.observe import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Rekeyed:
    """What became of one backup; `error` says why it was left as it is.

    Of one in a store: whether it was brought for that, and the old forms that are gone there.
    """

    id: str
    file: str
    changed: bool
    error: ObmsError | None = None
    brought: bool = False
    replaced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """The copies in a store that are not encrypted as they are to be, by file; or why that is not known."""

    store: str
    files: tuple[str, ...] = ()
    error: StorageFailed | None = None


Wanted = Callable[[Manifest], tuple[str, ...]]


def rekey(
    backups: Backups, names: Iterable[str], *, add: Sequence[str] = (), remove: Sequence[str] = ()
) -> list[Rekeyed]:
    """Encrypt these backups, or all without names, to other public keys; one that cannot be stays as it is.

    Those of the settings; with `add` or `remove` those that the backup has, more and less, so that
    nobody else loses or gains it. Killed at any moment it leaves each backup in its old form, in its
    new one, or in both; a second call ends it.
    """
    wanted = wanted_by(backups, add, remove)
    with locked(backups):
        sweep_uncommitted(backups)
        sweep_superseded(backups)
        chosen = [find(backups.storage, name, backups.trusted) for name in names]
        done = [_tried(backups, wanted, backup) for backup in chosen or _all(backups)]
    tell(backups, done, add, remove)
    return done


def tell(backups: Backups, done: Sequence[Rekeyed], add: Sequence[str], remove: Sequence[str]) -> None:
    facts = {"changed": [one.id for one in done if one.changed], "added": add, "removed": remove}
    failed = {one.id: str(one.error) for one in done if one.error}
    backups.notify(Event(name="backup.rekeyed", ok=not failed, facts={**facts, "failed": failed}))


def wanted_by(backups: Backups, add: Sequence[str], remove: Sequence[str]) -> Wanted:
    """To whom each is to be encrypted; ConfigurationError for a key that is none, before the first backup."""
    for public in (*add, *remove):
        read_recipient(public)
    settings = recipients_of(backups.chain)

    def wanted(old: Manifest) -> tuple[str, ...]:
        own = old.recipients if add or remove else ()
        return changed_recipients(own or settings, add, remove)

    return wanted


def left_in_stores(
    backups: Backups, ids: Container[str] | None, *, add: Sequence[str] = (), remove: Sequence[str] = ()
) -> Iterator[Left]:
    """What the stores still hold, of these or of all, that `rekey` told the same would encrypt anew."""
    wanted = wanted_by(backups, add, remove)
    for store in backups.stores:
        try:
            catalog = list(read_catalog(store.storage, backups.trusted))
        except StorageFailed as error:
            yield Left(store=store.name, error=error)
            continue
        told = [backup.manifest for backup in catalog if backup.manifest and backup.signature == "ours"]
        asked = [each for each in told if ids is None or each.id in ids]
        files = tuple(each.file for each in asked if not is_as(wanted, each))
        if files:
            yield Left(store=store.name, files=files)


def is_as(wanted: Wanted, manifest: Manifest) -> bool:
    try:
        return set(manifest.recipients) == set(wanted(manifest))
    except ConfigurationError:  # who is to lose it is the only one who can open it
        return False


def rekey_store(backups: Backups, store: Store) -> tuple[str, ...]:
    """Bring the new forms to a store, read back there, and remove the old ones; the files that are gone.

    Killed at any moment it leaves a whole form of each backup; a second call ends it. BackupDamaged
    where a new form is not whole there: its old one stays.
    """
    with locked(backups):
        require_copied(copy_to_stores(replace(backups, stores=Stores(configured=(store,)))))
        return remove_old_forms(store, backups.trusted)


def remove_old_forms(store: Store, trusted: str | None) -> tuple[str, ...]:
    """Remove what a new form stands for there that is read back whole; the files that are gone."""
    storage, rate = store.storage, store.options.rate_limit
    sweep_removals(storage, trusted)
    pairs = superseded(storage, trusted)
    whole = {new.file for new, _ in pairs if new.manifest and is_whole(storage, new.manifest, rate)}
    old = tuple(old for new, old in pairs if new.file in whole)
    removed = [backup.file for backup in apply(storage, Plan(keep=(), remove=old, reasons={}))]
    if rotten := next((new.file for new, _ in pairs if new.file not in whole), None):
        raise BackupDamaged(
            name=rotten,
            detail=f"in {store.name}, so that its old form stays there",
            hint=f"`obms backup verify {rotten} --store {shlex.quote(store.name)}` has it count no longer; "
            "then the same command sends another.",
        )
    return tuple(removed)


def _all(backups: Backups) -> Iterator[Backup]:
    """All that were ours once, the damaged ones too, so that they are told; a file of somebody's is not."""
    catalog = list(read_catalog(backups.storage, backups.trusted))
    return (backup for backup in catalog if backup.state != "orphan")


def _tried(backups: Backups, wanted: Wanted, backup: Backup) -> Rekeyed:
    try:
        file = renew(backups, wanted, backup)
    except ObmsError as error:
        return Rekeyed(id=backup.id, file=backup.file, changed=False, error=error)
    return Rekeyed(id=backup.id, file=file, changed=file != backup.file)


def trusted_manifest(storage: Storage, backup: Backup) -> Manifest:
    """The manifest of one that is whole by its size, or BackupDamaged; one that is not ours is refused."""
    manifest = backup.manifest
    require_whole(storage, backup)
    if manifest is None:
        raise BackupDamaged(name=backup.file, detail="it has no manifest")
    if not check_signature(manifest, backup.trusted, vouched=backup.proven).ok:
        raise refusal(backup.file, manifest.signature_seen_by(backup.trusted))
    return manifest


def renew(backups: Backups, wanted: Wanted, backup: Backup, taken: Iterable[str] = ()) -> str:
    """Make the new form of one backup and remove the old one; the file it is in.

    It gets a name that nothing has here, or of those `taken` elsewhere.
    """
    old = trusted_manifest(backups.storage, backup)
    recipients = wanted(old)
    if set(old.recipients) == set(recipients):
        return old.file
    chain = with_own_key(encrypting_to(backups.chain, recipients))
    file = _free_form({*backups.storage.names(), *taken}, old.file, chain.ending)
    mark = f".{file}{BEGUN_END}"
    backups.storage.put(mark, iter(()))
    try:
        new = _publish(backups, chain, old, file)
    except ObmsError:
        for name in (file, mark):
            backups.storage.remove(name)
        raise
    if backup.verdict is not None and backup.proven:
        # It was about these very plain bytes. Before the manifest, so that it is never missing beside it.
        verdict = replace(backup.verdict, manifest=new.fingerprint).signed(backups.signer)
        backups.storage.put(file + VERDICT_END, iter((verdict.to_bytes(),)))
    backups.storage.put(file + MANIFEST_END, iter((new.to_bytes(),)))
    backups.storage.remove(mark)
    remember_openers(backups, backups.storage, old.file, old.id)
    retire(backups, old.file)
    return file


def _free_form(names: AbstractSet[str], file: str, ending: str) -> str:
    """The next form of this name that nothing has: what lies there is not written over."""
    file = next_name(file, ending)
    while {file, file + MANIFEST_END, f".{file}{BEGUN_END}"} & names:
        file = next_name(file, ending)
    return file


def _publish(backups: Backups, chain: Chain, old: Manifest, file: str) -> Manifest:
    """Write the new image, and read it again; the manifest that would commit it."""
    stored = Meter()
    coded = backups.storage.get(old.file)
    plain = _checked(backups.chain.decode(coded, old.codecs), old)
    backups.storage.put(file, stored.measure(chain.encode(plain)))
    new = replace(
        old,
        file=file,
        codecs=chain.names,
        bytes=stored.bytes,
        sha256=stored.sha256,
        recipients=recipients_of(chain),
    ).signed(backups.signer)
    failed = [check for check in spool(replace(backups, chain=chain), new, None) if not check.ok]
    if failed:
        raise StorageFailed(detail=f"{file} is not what was written: {failed[0].detail}")
    return new


def _checked(plain: Chunks, manifest: Manifest) -> Chunks:
    """The plain bytes; BackupDamaged at their end, so that nothing is published, if they are others."""
    meter = Meter()
    yield from meter.measure(plain)
    if (meter.bytes, meter.sha256) != (manifest.raw_bytes, manifest.raw_sha256):
        raise BackupDamaged(name=manifest.file, detail="its plain bytes are not those of its manifest")
