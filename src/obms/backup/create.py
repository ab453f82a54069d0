"""Making a backup: snapshot, encode, publish, and last the manifest that commits it."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from threading import Event

from obms.backup import Backups
from obms.backup.alongside import alongside
from obms.backup.catalog import IMAGE, free_name, marked, pin_name_of
from obms.backup.encryption import recipients_of
from obms.backup.manifest import MANIFEST_END, VERDICT_END, Manifest
from obms.backup.stages import Stages
from obms.backup.storage import Storage
from obms.databases import Chunks, Snapshot
from obms.errors import AlreadyThere, BackupFailed, StorageFailed

BEGUN_END = ".begun"
NO_SCHEMA = (
    "Check that SQLITE_FILE or DATABASE_URL (POSTGRES_*) names the right one. "
    "For a new server `obms migrate` makes it; a lost one is brought back by `obms restore latest`."
)


class Unwanted(Exception):
    """Nobody wants the backup any more; nothing was published."""


class Meter:
    """Counts and hashes what passes; the figures hold when all has passed."""

    def __init__(self) -> None:
        self.bytes = 0
        self._hash = self._before_last = hashlib.sha256()
        self._last = b""

    def measure(self, chunks: Chunks) -> Chunks:
        return alongside(chunks, self._take)

    def _take(self, chunk: bytes) -> None:
        self._before_last, self._last = self._hash.copy(), chunk
        self.bytes += len(chunk)
        self._hash.update(chunk)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def sha256_with_a_flipped_bit(self) -> str:
        """The hash of the same bytes, but for the lowest bit of the last one."""
        damaged = self._before_last.copy()
        damaged.update(self._last[:-1] + bytes(byte ^ 1 for byte in self._last[-1:]))
        return damaged.hexdigest()


def create(
    backups: Backups, *, reason: str, stages: Stages | None = None, unwanted: Event | None = None
) -> Manifest:
    """Publish one backup of the database and return its manifest; needs the lock.

    BackupFailed for a database that is not of this server: it would restore to nothing. Unwanted,
    with nothing published, soon after `unwanted` was set by another thread.
    A mark is left before the image and taken away after the manifest, so that the next run can
    tell an image of ours that was never committed from a file that somebody put there.
    """
    storage, database, chain = backups.storage, backups.database, backups.chain
    started_at = backups.clock()
    name, file = free_name(storage, database.kind, started_at, chain.ending)
    mark = f".{file}{BEGUN_END}"
    plain, stored = Meter(), Meter()
    published: list[str] = []
    stages = stages or Stages()
    stages.begin("snapshot")
    try:
        with database.snapshot() as snapshot, closing(snapshot.chunks()) as chunks:
            _require_schema(snapshot)
            stages.begin("publish")
            storage.put(mark, iter(()))
            coded = chain.encode(plain.measure(_while_wanted(chunks, unwanted)))
            _publish(storage, file, stored.measure(coded), published)
            facts = snapshot.facts()
        # Only now: a snapshot that fails at its very end was none.
        manifest = Manifest(
            id=name,
            file=file,
            reason=reason,
            database=database.kind,
            server_version=snapshot.server_version,
            app_version=backups.version,
            revision=facts.revision,
            started_at=started_at,
            ended_at=backups.clock(),
            codecs=chain.names,
            raw_bytes=plain.bytes,
            raw_sha256=plain.sha256,
            bytes=stored.bytes,
            sha256=stored.sha256,
            rows=facts.rows,
            digests=facts.digests,
            sealing_key=backups.sealing_key,
            tools=snapshot.tools,
            recipients=recipients_of(chain),
        ).signed(backups.signer)
        _publish(storage, file + MANIFEST_END, iter((manifest.to_bytes(),)), published)
    except BaseException:
        _withdraw(storage, (*reversed(published), mark))
        raise
    storage.remove(mark)
    return manifest


def _require_schema(snapshot: Snapshot) -> None:
    if snapshot.revision is None:
        raise BackupFailed(
            detail="the database has no schema of this server: it is empty, or another one's", hint=NO_SCHEMA
        )


def _while_wanted(chunks: Chunks, unwanted: Event | None) -> Chunks:
    for chunk in chunks:
        if unwanted is not None and unwanted.is_set():
            raise Unwanted
        yield chunk


def _publish(storage: Storage, name: str, chunks: Chunks, published: list[str]) -> None:
    """Put what replaces nothing, and note it as ours to take back, also where that breaks off."""
    published.append(name)
    try:
        storage.put(name, chunks, replace=False)
    except AlreadyThere:
        published.remove(name)
        raise


def _withdraw(storage: Storage, names: Iterable[str]) -> None:
    """Take back what was never committed; if the storage fails here too, the mark stays for the next run."""
    with suppress(StorageFailed):
        for name in names:
            storage.remove(name)


def sweep_uncommitted(backups: Backups) -> list[str]:
    """Remove the images that a killed run published and did not commit; needs the lock."""
    names = set(backups.storage.names())
    removed = []
    for mark, file in marked(names, BEGUN_END):
        if file + MANIFEST_END not in names:
            for name in names.intersection(_parts_of(file, names)):
                backups.storage.remove(name)
            removed += [file] if file in names else []
        backups.storage.remove(mark)
    return removed


def _parts_of(file: str, names: Iterable[str]) -> Iterator[str]:
    """What there is of an image beside its manifest; its pin is another form's too, where there is one."""
    yield from (file, file + VERDICT_END)
    pin = pin_name_of(file)
    if pin not in {pin_name_of(name) for name in names if name != file and IMAGE.fullmatch(name)}:
        yield pin
