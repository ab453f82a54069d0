"""A large object goes to S3 in parts, and those that are there already are not sent again."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from threading import Condition, Thread

from obms.backup.pace import Pace
from obms.backup.s3_requests import Part, S3Requests
from obms.errors import BackupDamaged, StorageFailed, StoreRefused

AT_ONCE = 3  # parts on their way: each is in memory, and so is the one that is made
GRACE_SECONDS = 5.0


def send_in_parts(
    requests: S3Requests, name: str, parts: Iterator[bytes], *, replace: bool, pace: Pace
) -> None:
    """Go on with the unfinished upload of this very name, or begin one, and make the parts an object.

    What breaks off stays for the next try, unless the bytes turned out not to be what they should be, or
    the store does not tell what is unfinished: then it is to forget the parts.
    """
    try:
        found, resumes = requests.unfinished(name), True
    except StoreRefused:
        found, resumes = None, False
    id, kept = found or (requests.begin(name), {})
    upload = _Upload(requests, name, id, kept, pace)
    try:
        etags = upload.send(parts)
    except BaseException as error:
        upload.wait(GRACE_SECONDS)
        if isinstance(error, BackupDamaged) or not resumes:
            _forget(requests, name, id)
        raise
    requests.complete(name, id, etags, replace=replace)


def _forget(requests: S3Requests, name: str, id: str) -> None:
    """A store that does not answer is not waited for."""

    def abort() -> None:
        with suppress(StorageFailed):  # it is swept then
            requests.abort(name, id)

    thread = Thread(target=abort, daemon=True)
    thread.start()
    thread.join(GRACE_SECONDS)


def digest_of(part: bytes) -> bytes:
    """The MD5, as S3 tells it of a part: it guards against errors, and the whole is read back."""
    return hashlib.md5(part, usedforsecurity=False).digest()


class _Upload:
    """The parts of one object, each sent by a thread of its own.

    They are made in the caller's thread: they may come from another store, and a signal that ends the
    run is heard there. Threads that wait for a server that hangs are left behind.
    """

    def __init__(
        self, requests: S3Requests, name: str, id: str, kept: Mapping[int, Part], pace: Pace
    ) -> None:
        self._requests, self._name, self._id, self._kept, self._pace = requests, name, id, kept, pace
        self._etags: dict[int, str] = {}
        self._failed: list[BaseException] = []
        self._changed = Condition()
        self._on_way = 0

    def send(self, parts: Iterator[bytes]) -> Mapping[int, str]:
        """The ETags of all, by number; the first failure of one ends the sending."""
        for number, part in enumerate(parts, 1):
            md5 = digest_of(part)
            if self._kept.get(number) == Part(size=len(part), etag=md5.hex()):
                self._etags[number] = md5.hex()
            else:
                self._hand_over(number, part, md5)
        self.wait()
        self._raise_failure()
        return self._etags

    def wait(self, seconds: float | None = None) -> None:
        """Until none is on its way, or until the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._on_way == 0, seconds)

    def _hand_over(self, number: int, part: bytes, md5: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._on_way < AT_ONCE)
            self._raise_failure()
            self._on_way += 1
        with self._pace.passing(len(part)):
            Thread(target=self._run, args=(number, part, md5), daemon=True).start()

    def _raise_failure(self) -> None:
        if self._failed:
            raise self._failed[0]

    def _run(self, number: int, part: bytes, md5: bytes) -> None:
        try:
            self._etags[number] = self._requests.send(self._name, self._id, number, part, md5)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the upload was asked for
            self._failed.append(error)
        with self._changed:
            self._on_way -= 1
            self._changed.notify()
