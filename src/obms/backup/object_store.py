"""Backups in an object store: Amazon S3 and what speaks like it, Google Cloud Storage, Azure."""

import re
from collections.abc import Callable, Container, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property, partial
from queue import Empty, Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from obms.backup.pace import Pace, paced
from obms.backup.s3_access import CONNECT_SECONDS, HINT, LONGEST_REASON, RETRIES, S3Access
from obms.backup.storage import Ours
from obms.databases import Chunks
from obms.errors import AlreadyThere, BackupNotFound, ConfigurationError, StorageFailed, StoreRefused

if TYPE_CHECKING:
    from obstore import GetOptions

    from obms.backup.s3_requests import S3Requests

T = TypeVar("T")
OPENERS = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
ENDPOINTS = {"gs": "base_url"}  # what a client calls the address of its server, where not `endpoint`
AT_ONCE = 3  # parts on their way
READS = 16  # small objects that are asked for at the same time: each takes as long as the way is
LOOK_SECONDS = 0.1
GRACE_SECONDS = 5.0
MB = 1 << 20
MOST_PARTS = 10_000  # of an object; S3 takes no more
NO_CREDENTIALS = re.compile(r"External AWS credential provider: \w+: (.*)")
# The second is Azure's, of a removal; 409 and 412 are what is immutable there, and what is leased.
REFUSALS = re.compile(r"status code: (401|403|404)\b|Bulk delete .*\(code: (401|403|409|412)\)")


class ObjectStore:
    """Objects under one prefix of a bucket. Its names are flat: what lies deeper is not seen."""

    at_once = READS

    def __init__(
        self,
        name: str,
        client: Any,
        part_size: int,
        open_requests: "Callable[[], S3Requests] | None" = None,
    ) -> None:
        self.name = name
        self._client = client
        self._part_size = part_size
        self._open_requests = open_requests

    def __repr__(self) -> str:
        return f"ObjectStore({self.name!r})"

    @cached_property
    def requests(self) -> "S3Requests | None":
        """What only S3 knows, opened when it is first needed."""
        return self._open_requests() if self._open_requests else None

    def put(
        self,
        name: str,
        chunks: Chunks,
        *,
        replace: bool = True,
        size: int | None = None,
        rate: int | None = None,
    ) -> None:
        """As the seam says; a large object that is not to be replaced is looked for before.

        Where a server knows no condition for it, that is no fence: so that two that write the same large
        name do not meet there, they put a small mark first.
        """
        part_size = size_of_parts(self._part_size, size)
        parts = _in_parts(chunks, part_size)
        first, whole = next(parts)
        if whole:
            with Pace(rate).passing(len(first)):
                self._put_whole(name, first, replace=replace)
            return
        with self._errors(name, sends=True):
            if not replace and self._has(name):
                raise AlreadyThere(name=name, store=self.name)
            all_parts = _all([first], parts)
            del first
            if self.requests:
                from obms.backup.s3_parts import send_in_parts

                send_in_parts(self.requests, name, all_parts, replace=replace, pace=Pace(rate))
            else:
                _Upload(self._client, name, part_size).send(paced(all_parts, rate))

    def _put_whole(self, name: str, data: bytes, *, replace: bool) -> None:
        mode: Literal["overwrite", "create"] = "overwrite" if replace else "create"
        with self._errors(name, sends=True):
            _answer(lambda: obstore.put(self._client, name, data, mode=mode, use_multipart=False))

    def get(self, name: str) -> Chunks:
        """A small one by one request; else in ranges of one version, each tried again by itself."""
        with self._errors(name):
            found = _answer(lambda: obstore.get(self._client, name))
            size, version = found.meta["size"], found.meta["e_tag"]
            if size <= self._part_size:
                yield bytes(_answer(found.bytes))
                return
            del found  # its bytes are not waited for
            for start in range(0, size, self._part_size):
                end = min(start + self._part_size, size)
                yield bytes(_answer(partial(self._get_part, name, version, start, end)))

    def _get_part(self, name: str, version: str | None, start: int, end: int) -> obstore.Bytes:
        options: GetOptions = {"range": (start, end), "if_match": version}
        return obstore.get(self._client, name, options=options).bytes()

    def size(self, name: str) -> int:
        with self._errors(name):
            return _answer(lambda: obstore.head(self._client, name))["size"]

    def names(self, prefix: str = "") -> Iterator[str]:
        yield from (name for name in sorted(self.sizes()) if name.startswith(prefix))

    def sizes(self) -> Mapping[str, int]:
        with self._errors(""):
            found = _answer(lambda: obstore.list_with_delimiter(self._client))["objects"]
        # Some servers list the prefix itself, as an object without a name.
        return {item["path"]: item["size"] for item in found if item["path"]}

    def remove(self, name: str) -> None:
        with self._errors(name):
            try:
                _answer(lambda: obstore.delete(self._client, name))
            except (FileNotFoundError, NotFoundError):
                return

    def sweep(
        self, ours: Ours = lambda _name: True, *, coming: Container[str] = frozenset()
    ) -> frozenset[str]:
        """Abort the uploads that a killed `put` left, where they can be listed: S3."""
        if self.requests is None:
            return frozenset()
        begun = set()
        for name, id in self.requests.uploads():
            if name in coming:
                begun.add(name)
            elif ours(name):
                self.requests.abort(name, id)
        return frozenset(begun)

    def _has(self, name: str) -> bool:
        try:
            _answer(lambda: obstore.head(self._client, name))
        except (FileNotFoundError, NotFoundError):
            return False
        return True

    @contextmanager
    def _errors(self, name: str, *, sends: bool = False) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotFoundError) as error:
            if sends:  # then it is the bucket that is not there
                raise StoreRefused(store=self.name, detail=_reason(error)) from error
            raise BackupNotFound(name=name) from error
        except AlreadyExistsError as error:
            raise AlreadyThere(name=name, store=self.name) from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            if found := NO_CREDENTIALS.search(str(error)):  # which may come: a machine's role is asked for
                raise StorageFailed(detail=f"{self.name}: {found[1]}", hint=HINT) from error
            raise StoreRefused(store=self.name, detail=_reason(error)) from error
        except BaseError as error:
            if REFUSALS.search(str(error)):
                raise StoreRefused(store=self.name, detail=_reason(error)) from error
            raise StorageFailed(detail=f"{self.name}: {_reason(error)}", hint=HINT) from error


def _answer(call: Callable[[], T]) -> T:
    """What the client answers; it is asked in a thread, so that a signal is heard while a store hangs."""
    answer: Future[T] = Future()

    def ask() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the answer is waited for
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()
    return answer.result()


def open_object_store(
    name: str, settings: Mapping[str, Any], *, timeout: float, part_size: int
) -> ObjectStore:
    """The store of a name such as `s3://bucket/prefix`; nothing is connected to yet."""
    scheme, _, rest = name.partition("://")
    bucket, _, prefix = rest.partition("/")
    given = dict(settings)
    endpoint = str(given.pop("endpoint", "")).rstrip("/")
    if endpoint:
        given[ENDPOINTS.get(scheme, "endpoint")] = endpoint
    access = S3Access(settings=dict(given), timeout=timeout) if scheme == "s3" else None
    if access and not access.has_key:
        given["credential_provider"] = access.credential
    try:
        client = OPENERS[scheme](
            bucket,
            prefix=prefix or None,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "timeout": timedelta(seconds=timeout),
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=timeout)},
            **given,
        )
    except (BaseError, ValueError, TypeError) as error:
        raise ConfigurationError(detail=f"BACKUP_STORES {name}: {_reason(error)}") from error
    return ObjectStore(name, client, part_size, partial(_open_requests, name, access) if access else None)


def _open_requests(name: str, access: S3Access) -> "S3Requests":
    from obms.backup.s3_requests import open_requests

    return open_requests(name, access)


def size_of_parts(least: int, size: int | None) -> int:
    """Bytes of a part, so that an object of this size is no more of them than S3 takes; in whole MB then."""
    needed = -(-(size or 0) // MOST_PARTS)
    return max(least, -(-needed // MB) * MB)


class _Upload:
    """One large object on its way, in parts, sent by a thread of its own.

    The chunks are made in the caller's thread: they may come from another store, and a signal
    that ends the run is heard between two of them. An exception there withdraws the upload.
    """

    def __init__(self, client: Any, name: str, part_size: int) -> None:
        self._queue: Queue[bytes | BaseException | None] = Queue(maxsize=1)
        self._failed: list[BaseException] = []
        self._thread = Thread(target=self._run, args=(client, name, part_size), daemon=True)

    def send(self, chunks: Chunks) -> None:
        self._thread.start()
        try:
            for chunk in chunks:
                self._hand_over(chunk)
        except BaseException as error:
            self._withdraw(error)
            raise
        self._hand_over(None)
        self._thread.join()
        if self._failed:
            raise self._failed[0]

    def _hand_over(self, item: bytes | BaseException | None) -> None:
        while self._thread.is_alive():
            try:
                self._queue.put(item, timeout=LOOK_SECONDS)
            except Full:
                continue
            return

    def _withdraw(self, error: BaseException) -> None:
        """Have the store forget the parts; one that does not answer is not waited for."""
        with suppress(Empty):
            self._queue.get_nowait()
        self._queue.put(error)
        self._thread.join(GRACE_SECONDS)

    def _run(self, client: Any, name: str, part_size: int) -> None:
        try:
            obstore.put(client, name, self._chunks(), chunk_size=part_size, max_concurrency=AT_ONCE)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the upload was asked for
            self._failed.append(error)

    def _chunks(self) -> Iterator[bytes]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item


def _in_parts(chunks: Chunks, size: int) -> Iterator[tuple[bytes, bool]]:
    """The same bytes in parts of that size, each with whether it is the last; of nothing, an empty one."""
    pieces: list[bytes] = []
    count = 0
    for chunk in chunks:
        rest = chunk
        while count + len(rest) > size:
            pieces.append(rest[: size - count])
            rest = rest[size - count :]
            yield _joined(pieces), False
            count = 0
        pieces.append(rest)
        count += len(rest)
    yield _joined(pieces), True


def _all(first: list[bytes], parts: Iterator[tuple[bytes, bool]]) -> Iterator[bytes]:
    yield first.pop()
    for part, _ in parts:
        yield part


def _joined(pieces: list[bytes]) -> bytes:
    """All of them as one, and none of them is kept: parts may be large."""
    joined = b"".join(pieces)
    pieces.clear()
    return joined


def _reason(error: BaseException) -> str:
    """What a client's error says, in one line: the store's own words, or else the client's first line."""
    text = str(error) or type(error).__name__
    # Azure adds a request's id and time, in lines of their own.
    told = [found[1] for tag in ("Code", "Message") if (found := re.search(rf"<{tag}>([^<\n]*)", text))]
    line = ": ".join(told) or re.sub(r"^Generic \w+ error: |\?\S*", "", text.splitlines()[0])
    return line.strip(" .")[:LONGEST_REASON]
