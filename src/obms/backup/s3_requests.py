"""The requests to S3 that obstore has no call for: uploads that go on, and the locks of objects."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from obms.backup.s3_access import HINT, LONGEST_REASON, S3Access
from obms.errors import AlreadyThere, ObmsError, StorageFailed, StoreRefused

PAGE = 1000  # what is told of a list by one answer
GONE = "NoSuchUpload"
# What passes by trying again: what was changed on its way, and an upload that is begun anew.
PASSING = {
    GONE,
    "BadDigest",
    "ExpiredToken",
    "OperationAborted",
    "IncompleteBody",
    "InvalidPart",
    "RequestTimeout",
    "XAmzContentSHA256Mismatch",
}
TAKEN = {"ConditionalRequestConflict", "PreconditionFailed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a server says of a part that it has; of most servers the ETag is the MD5."""

    size: int
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Requests:
    """One prefix of a bucket, by botocore's client. Each failure is StorageFailed, in one line."""

    store: str
    bucket: str
    prefix: str
    client: Any = field(repr=False)

    def uploads(self, name: str = "") -> Iterator[tuple[str, str]]:
        """The names of the uploads that were begun and not ended, each with its id, in the order they were.

        Of one name, or of all that lie directly below the prefix.
        """
        with self._errors():
            pages = self._pages("list_multipart_uploads", Prefix=self._key(name))
            listed = [upload for page in pages for upload in page.get("Uploads", ())]
        # Not all servers tell when they were begun.
        for upload in sorted(listed, key=lambda upload: str(upload.get("Initiated", ""))):
            found = upload["Key"].removeprefix(self._key(""))
            if found == name or not (name or "/" in found):
                yield found, upload["UploadId"]

    def unfinished(self, name: str) -> tuple[str, Mapping[int, Part]] | None:
        """The newest upload of this very name, and the parts that are there; None where there is none."""
        for _, id in reversed(list(self.uploads(name))):
            with self._errors():
                try:
                    return id, self._parts(name, id)
                except ClientError as error:
                    if _code(error) != GONE:
                        raise
        return None

    def _parts(self, name: str, id: str) -> Mapping[int, Part]:
        pages = self._pages("list_parts", Key=self._key(name), UploadId=id)
        listed = (part for page in pages for part in page.get("Parts", ()))
        return {part["PartNumber"]: Part(size=part["Size"], etag=_bare(part["ETag"])) for part in listed}

    def begin(self, name: str) -> str:
        """Begin an upload; its id."""
        with self._errors():
            return str(self.client.create_multipart_upload(**self._object(name))["UploadId"])

    def send(self, name: str, id: str, number: int, part: bytes, md5: bytes) -> str:
        """Send one part, which the server compares with its `md5`; its ETag."""
        with self._errors():
            told = self.client.upload_part(
                **self._object(name),
                UploadId=id,
                PartNumber=number,
                Body=part,
                ContentMD5=b64encode(md5).decode(),
            )
            return _bare(told["ETag"])

    def complete(self, name: str, id: str, etags: Mapping[int, str], *, replace: bool) -> None:
        """Make the parts one object; AlreadyThere where there is one that is not to be replaced.

        A server that does not know that condition replaces it.
        """
        parts = [{"PartNumber": number, "ETag": f'"{etags[number]}"'} for number in sorted(etags)]
        asked = {**self._object(name), "UploadId": id, "MultipartUpload": {"Parts": parts}}
        with self._errors(name):
            try:
                condition = {} if replace else {"IfNoneMatch": "*"}
                self.client.complete_multipart_upload(**asked, **condition)
            except ClientError as error:
                if replace or _status(error) != HTTPStatus.NOT_IMPLEMENTED:
                    raise
                self.client.complete_multipart_upload(**asked)

    def abort(self, name: str, id: str) -> None:
        """Have the parts of an upload forgotten."""
        with self._errors():
            self.client.abort_multipart_upload(**self._object(name), UploadId=id)

    def lock(self, name: str, until: datetime) -> None:
        """Let nobody remove this version of an object, or shorten that, before `until`."""
        rule = {"Mode": "COMPLIANCE", "RetainUntilDate": until}
        with self._errors():
            self.client.put_object_retention(**self._object(name), Retention=rule)

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _object(self, name: str) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": self._key(name)}

    def _pages(self, what: str, **asked: Any) -> Iterator[Any]:
        paging = {"PageSize": PAGE}
        pages = self.client.get_paginator(what).paginate(Bucket=self.bucket, PaginationConfig=paging, **asked)
        yield from pages

    @contextmanager
    def _errors(self, name: str = "") -> Iterator[None]:
        with _errors(self.store, name):
            yield


def open_requests(name: str, access: S3Access) -> S3Requests:
    """Those of a store; StorageFailed where nothing is found that opens it."""
    bucket, _, prefix = name.removeprefix("s3://").partition("/")
    with _errors(name):
        return S3Requests(store=name, bucket=bucket, prefix=prefix, client=access.client())


@contextmanager
def _errors(store: str, name: str = "") -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise _told(store, name, error) from error
    except (BotoCoreError, LookupError, ValueError) as error:
        raise StorageFailed(detail=f"{store}: {_line(str(error))}", hint=HINT) from error


def _told(store: str, name: str, error: ClientError) -> ObmsError:
    """What an answer means: a refusal, or what passes by trying again."""
    told = error.response.get("Error", {})
    detail = _line(": ".join(filter(None, (_code(error), told.get("Message")))))
    status = _status(error)
    if _code(error) in TAKEN:
        return AlreadyThere(name=name, store=store)
    passes = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
    if _code(error) in PASSING or (passes and status != HTTPStatus.NOT_IMPLEMENTED):
        return StorageFailed(detail=f"{store}: {detail}", hint=HINT)
    return StoreRefused(store=store, detail=detail)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _line(text: str) -> str:
    return text.partition("\n")[0].strip(" .")[:LONGEST_REASON]


def _bare(etag: str) -> str:
    return etag.strip('"')
