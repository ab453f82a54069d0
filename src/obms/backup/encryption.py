"""Encryption in the age format: public keys close an image, any of their private keys opens it."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pyrage import DecryptError, IdentityError, RecipientError, decrypt, decrypt_io, encrypt_io
from pyrage.x25519 import Identity, Recipient

from obms.backup.codecs import Chain
from obms.backup.threads import Source, Target, through_thread
from obms.databases import Chunks
from obms.errors import BackupDamaged, ConfigurationError, IdentityMissing

NO_MATCH = "No matching keys found"


class Age:
    """age for these recipients; decoded with the keys of `identity_file`, which is read when it is needed.

    Of the format nothing else is used than X25519 keys, as `age-keygen` makes them.
    """

    name = "age"
    ending = ".age"

    __slots__ = ("_identity_file", "_own", "recipients")

    def __init__(
        self, recipients: Iterable[str], identity_file: Path | None, *, own: Identity | None = None
    ) -> None:
        self.recipients = tuple(recipients)
        self._identity_file = identity_file
        self._own = own

    def with_recipients(self, recipients: Iterable[str]) -> "Age":
        return Age((str(read_recipient(public)) for public in recipients), self._identity_file)

    def with_own_key(self) -> "Age":
        """One more recipient, whose private key is in memory alone: what it encodes it can decode itself."""
        return Age(self.recipients, self._identity_file, own=self._own or Identity.generate())

    def encode(self, plain: Chunks) -> Chunks:
        recipients = [read_recipient(public) for public in self.recipients]
        if self._own is not None:
            recipients.append(self._own.to_public())
        return through_thread(lambda source, target: encrypt_io(source, target, recipients), plain)

    def decode(self, coded: Chunks) -> Chunks:
        """IdentityMissing where no key is at hand, or none that fits."""
        identities = self.identities() if self._own is None else [self._own]
        yield from through_thread(lambda source, target: _decrypt(source, target, identities), coded)

    def identities(self) -> list[Identity]:
        """The private keys of the file; IdentityMissing where there is none."""
        path = self._identity_file
        if path is None:
            raise IdentityMissing(detail="the image is encrypted, and BACKUP_AGE_IDENTITY_FILE is not set")
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise IdentityMissing(detail=f"{path} cannot be read as a file of age identities") from error
        found = [_read_identity(line.strip(), path) for line in lines if line.strip() and line[0] != "#"]
        if not found:
            raise IdentityMissing(detail=f"{path} holds no private key")
        return found


def _decrypt(source: Source, target: Target, identities: list[Identity]) -> None:
    try:
        decrypt_io(source, target, identities)
    except (DecryptError, OSError) as error:
        if str(error) == NO_MATCH:
            raise IdentityMissing(detail="no private key that is at hand opens this image") from error
        raise BackupDamaged(name="age stream", detail=str(error).splitlines()[0]) from error


def read_recipient(public: str) -> Recipient:
    """A public key; ConfigurationError, which never shows what was given: it may be a private one."""
    try:
        return Recipient.from_str(public)
    except RecipientError:
        detail = "BACKUP_AGE_RECIPIENTS, --add or --remove holds something that is no public key of age"
        raise ConfigurationError(detail=detail, hint="It takes keys that begin with age1.") from None


def _read_identity(line: str, path: Path) -> Identity:
    try:
        return Identity.from_str(line)
    except IdentityError:
        detail = f"{path} holds something that is no private key of age (AGE-SECRET-KEY-1...)"
        raise IdentityMissing(detail=detail) from None


def with_own_key(chain: Chain) -> Chain:
    """The chain of one run: it decodes what it encodes, though the private keys are elsewhere."""
    own = (codec.with_own_key() if isinstance(codec, Age) else codec for codec in chain.codecs)
    return replace(chain, codecs=tuple(own))


def encrypting_to(chain: Chain, recipients: Iterable[str]) -> Chain:
    """The chain with these recipients in the place of its own."""
    age = next(codec for codec in chain.known.values() if isinstance(codec, Age))
    others = (codec for codec in chain.codecs if not isinstance(codec, Age))
    return Chain(codecs=(*others, age.with_recipients(recipients)))


def recipients_of(chain: Chain) -> tuple[str, ...]:
    """The public keys that new images are encrypted to; none where they are not encrypted."""
    return tuple(key for codec in chain.codecs if isinstance(codec, Age) for key in codec.recipients)


def changed_recipients(before: Iterable[str], add: Iterable[str], remove: Iterable[str]) -> tuple[str, ...]:
    """These recipients, more and less; ConfigurationError where nobody is left."""
    added, removed = ({str(read_recipient(public)) for public in keys} for keys in (add, remove))
    wanted = dict.fromkeys((*before, *sorted(added)))
    left = tuple(public for public in wanted if public not in removed)
    if not left:
        detail = "nobody is left who could open the backups"
        raise ConfigurationError(detail=detail, hint="Set BACKUP_AGE_RECIPIENTS, or --add a public key.")
    return left


def opens(identity: Identity, head: bytes) -> bool:
    """Whether this key opens the image that begins so; `head` holds the header and more."""
    try:
        decrypt(head, [identity])
    except (DecryptError, OSError) as error:
        return str(error) != NO_MATCH  # the rest is missing: only after its header is that found
    return True
