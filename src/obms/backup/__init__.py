"""Backing up, proving and restoring a database; knows nothing of badges."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection

from obms.backup.codecs import Chain
from obms.backup.journal import Later
from obms.backup.manifest import Check
from obms.backup.retain import Policy
from obms.backup.signing import Signer
from obms.backup.storage import Storage
from obms.backup.stores import Stores
from obms.databases import Carry, Database
from obms.observe import Clock, Hook

Probe = Callable[[Database], list[Check]]
# What people call a change of a row: its table, `added`, `changed` or `deleted`, and its key.
Words = Callable[[str, str, Mapping[str, object]], str | None]


class Bring(Protocol):
    """Brings single rows from an older copy into the live database, within the transaction of `new`."""

    def __call__(
        self, old: Connection, new: Connection, wanted: Sequence[str], *, origin: str, overwrite: bool
    ) -> Iterator[tuple[str, str, str, str]]:
        """Of each row its table, what became of it, its key, and what there is to say.

        What became of it: `inserted`, `equal`, `kept` (it is there and newer), `overwritten`, or
        `refused`: then nothing may be committed.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Backups:
    """What every operation needs; made by the composition root.

    `storage` holds the backups; `folder` is BACKUP_DIR, with the lock; `stores` are the other places
    that they are copied to. `chain` is what new images pass through, and decodes every image. `probe`
    is the application's own proof, run on a scratch copy. `migrate` brings a loaded copy, named and
    versioned for the error, to today's schema; `make_tables` gives an empty copy the tables of a
    revision. `check_keys` raises KeyMissing when the copy was sealed with another key. `sealing_key`
    is the fingerprint of ours. `signer` signs manifests and verdicts; without it they are not signed,
    and none is believed. `later` is the journal of what must outlive the database. `word_of` is what
    people call a change of a row. A run is ended after `timeout`, if not zero. `policy` is how long
    backups are kept in `storage`.
    """

    database: Database
    storage: Storage
    folder: Path
    policy: Policy
    chain: Chain
    work: Path
    version: str
    sealing_key: str | None
    signer: Signer | None
    probe: Probe
    migrate: Callable[[Database, str, str], object]
    make_tables: Callable[[Database, str, str, str], object]
    check_keys: Callable[[Database], None]
    carry: Carry
    later: Later
    word_of: Words
    bring: Bring
    clock: Clock
    notify: Hook
    timeout: timedelta = timedelta()
    stores: Stores = field(default_factory=Stores)

    @property
    def trusted(self) -> str | None:
        """The public key whose signatures are believed."""
        return self.signer.public if self.signer else None
