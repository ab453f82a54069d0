"""Backups in an object store: Amazon S3 and what speaks like it, Google Cloud Storage, Azure."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import chain
from queue import Empty, Full, Queue
from threading import Thread
from typing import Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from obms.backup.s3_requests import S3Requests
from obms.backup.storage import Ours
from obms.databases import Chunks
from obms.errors import AlreadyThere, BackupNotFound, ConfigurationError, StorageFailed, StoreRefused

OPENERS = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
ENDPOINTS = {"gs": "base_url"}  # what a client calls the address of its server, where not `endpoint`
AT_ONCE = 3  # parts on their way
READS = 16  # small objects that are asked for at the same time: each takes as long as the way is
LOOK_SECONDS = 0.1
GRACE_SECONDS = 5.0
CONNECT = timedelta(seconds=10)
RETRIES = 3  # of one request; a copy as a whole is tried again by its maker
HINT = "Check that it answers, and what BACKUP_STORES says of it. Backups in BACKUP_DIR are untouched."
REGION = "us-east-1"  # S3's own default
LONGEST_REASON = 300
# The second is Azure's, of a removal; 409 and 412 are what is immutable there, and what is leased.
REFUSALS = re.compile(r"status code: (401|403|404)\b|Bulk delete .*\(code: (401|403|409|412)\)")


class ObjectStore:
    """Objects under one prefix of a bucket. Its names are flat: what lies deeper is not seen."""

    at_once = READS

    def __init__(self, name: str, client: Any, part_size: int, requests: S3Requests | None = None) -> None:
        self.name = name
        self.requests = requests
        self._client = client
        self._part_size = part_size

    def __repr__(self) -> str:
        return f"ObjectStore({self.name!r})"

    def put(self, name: str, chunks: Chunks, *, replace: bool = True) -> None:
        """As the seam says; a large object that is not to be replaced is looked for before, not fenced.

        So that two that write the same large name do not meet there, they put a small mark first.
        """
        beginning, whole = _beginning(chunks, self._part_size)
        with self._errors(name, sends=True):
            if whole:
                obstore.put(
                    self._client,
                    name,
                    beginning,
                    mode="overwrite" if replace else "create",
                    use_multipart=False,
                )
                return
            if not replace and self._has(name):
                raise AlreadyThere(name=name, store=self.name)
            _Upload(self._client, name, self._part_size).send(chain((beginning,), chunks))

    def get(self, name: str) -> Chunks:
        """A small one by one request; else in ranges of one version, each tried again by itself."""
        with self._errors(name):
            found = obstore.get(self._client, name)
            size, version = found.meta["size"], found.meta["e_tag"]
            if size <= self._part_size:
                yield bytes(found.bytes())
                return
            del found  # its bytes are not waited for
            for start in range(0, size, self._part_size):
                options = {"range": (start, min(start + self._part_size, size)), "if_match": version}
                yield bytes(obstore.get(self._client, name, options=options).bytes())  # type: ignore[arg-type]

    def size(self, name: str) -> int:
        with self._errors(name):
            return obstore.head(self._client, name)["size"]

    def names(self, prefix: str = "") -> Iterator[str]:
        yield from (name for name in sorted(self.sizes()) if name.startswith(prefix))

    def sizes(self) -> Mapping[str, int]:
        with self._errors(""):
            found = obstore.list_with_delimiter(self._client)["objects"]
        # Some servers list the prefix itself, as an object without a name.
        return {item["path"]: item["size"] for item in found if item["path"]}

    def remove(self, name: str) -> None:
        with self._errors(name):
            try:
                obstore.delete(self._client, name)
            except (FileNotFoundError, NotFoundError):
                return

    def sweep(self, ours: Ours = lambda _name: True) -> None:
        """Abort the uploads that a killed `put` left, where they can be listed: S3, with a key."""
        if self.requests is not None:
            for name, id in self.requests.uploads():
                if ours(name):
                    self.requests.abort(name, id)

    def _has(self, name: str) -> bool:
        try:
            obstore.head(self._client, name)
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
            raise StoreRefused(store=self.name, detail=_reason(error)) from error
        except BaseError as error:
            if REFUSALS.search(str(error)):
                raise StoreRefused(store=self.name, detail=_reason(error)) from error
            raise StorageFailed(detail=f"{self.name}: {_reason(error)}", hint=HINT) from error


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
    try:
        client = OPENERS[scheme](
            bucket,
            prefix=prefix or None,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": CONNECT,
                "timeout": timedelta(seconds=timeout),
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=timeout)},
            **given,
        )
    except (BaseError, ValueError, TypeError) as error:
        raise ConfigurationError(detail=f"BACKUP_STORES {name}: {_reason(error)}") from error
    requests = _requests(name, client.config, timeout) if isinstance(client, S3Store) else None
    return ObjectStore(name, client, part_size, requests)


def _requests(name: str, config: Mapping[str, Any], timeout: float) -> S3Requests | None:
    """What the client lacks; None where it takes its credentials from the machine's role."""
    key, secret = config.get("access_key_id"), config.get("secret_access_key")
    if key is None or secret is None:
        return None
    bucket, _, prefix = name.removeprefix("s3://").partition("/")
    region = config.get("region", REGION)
    return S3Requests(
        store=name,
        endpoint=str(config.get("endpoint", f"https://s3.{region}.amazonaws.com")).rstrip("/"),
        bucket=bucket,
        prefix=prefix,
        region=region,
        key=key,
        secret=secret,
        token=config.get("session_token"),
        timeout=timeout,
    )


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


def _beginning(chunks: Chunks, size: int) -> tuple[bytes, bool]:
    """What is read until there is `size` of it, and whether that is all."""
    beginning = bytearray()
    for chunk in chunks:
        beginning += chunk
        if len(beginning) > size:
            return bytes(beginning), False
    return bytes(beginning), True


def _reason(error: BaseException) -> str:
    """What a client's error says, in one line: the store's own words, or else the client's first line."""
    text = str(error) or type(error).__name__
    # Azure adds a request's id and time, in lines of their own.
    told = [found[1] for tag in ("Code", "Message") if (found := re.search(rf"<{tag}>([^<\n]*)", text))]
    line = ": ".join(told) or re.sub(r"^Generic \w+ error: |\?\S*", "", text.splitlines()[0])
    return line.strip(" .")[:LONGEST_REASON]
