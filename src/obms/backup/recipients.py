"""Whose private keys have been seen to open a backup: a key that was never tried may be lost."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from obms.backup import Backups
from obms.backup.encryption import Age, opens, recipients_of
from obms.backup.manifest import FORMAT, Document
from obms.backup.storage import Storage
from obms.errors import BackupDamaged, IdentityMissing

RECORD = "recipients.json"
ENOUGH = 1 << 16  # bytes, more than any header


@dataclass(frozen=True, slots=True, kw_only=True)
class Openers(Document):
    """The backup that each public key's holder has opened last."""

    opened: Mapping[str, str] = field(default_factory=dict)
    signed_by: str = ""
    signature: str = ""
    format: int = FORMAT


def remember_openers(backups: Backups, storage: Storage, file: str, id: str) -> None:
    """Note which of the keys at hand open this image, of which one has just decoded it; needs the lock."""
    age = next((codec for codec in backups.chain.known.values() if isinstance(codec, Age)), None)
    if age is None or not file.endswith(age.ending):
        return
    try:
        identities = age.identities()
    except IdentityMissing:
        return  # it was opened by the key of its run
    head = _head(storage, file)
    opened = {str(key.to_public()): id for key in identities if opens(key, head)}
    known = _read(backups)
    if {**known, **opened} != known:
        record = Openers(opened={**known, **opened}).signed(backups.signer)
        backups.storage.put(RECORD, iter((record.to_bytes(),)))


def unproven_recipients(backups: Backups) -> tuple[str, ...]:
    """The public keys of the settings whose holder was never seen to open a backup."""
    known = _read(backups)
    return tuple(public for public in recipients_of(backups.chain) if public not in known)


def _head(storage: Storage, file: str) -> bytes:
    head = b""
    for chunk in storage.get(file):
        head += chunk
        if len(head) >= ENOUGH:
            break
    return head


def _read(backups: Backups) -> Mapping[str, str]:
    """What is known; nothing where the record is missing, damaged, or not ours."""
    if RECORD not in set(backups.storage.names(RECORD)):
        return {}
    try:
        record = Openers.from_bytes(RECORD, b"".join(backups.storage.get(RECORD)))
    except BackupDamaged:
        return {}
    return record.opened if record.signature_seen_by(backups.trusted) == "ours" else {}
