"""Answers that are given in place of an S3 server, and what it was asked."""

from collections.abc import Callable, Iterator
from io import BytesIO

from botocore.awsrequest import AWSRequest, AWSResponse

from obms.backup.object_store import ObjectStore
from obms.backup.s3_requests import S3Requests
from obms.backup.stores import Store


class Raw(BytesIO):
    """What a connection gives."""

    def stream(self) -> Iterator[bytes]:
        yield self.read()


Handler = Callable[[AWSRequest], AWSResponse | None]


def requests_of(store: Store) -> S3Requests:
    assert isinstance(store.storage, ObjectStore)
    assert store.storage.requests is not None
    return store.storage.requests


def intercept(requests: S3Requests, what: str, handler: Handler) -> None:
    """Let `handler` see each request of this kind, and answer it in place of the server."""
    requests.client.meta.events.register(f"before-send.s3.{what}", lambda request, **_: handler(request))


def refuse(
    requests: S3Requests, what: str, status: int, code: str, *, times: int = 1_000_000, of: str = ""
) -> None:
    """Answer so, as often as that, to those that name this in their URL."""
    left = [times]

    def handle(request: AWSRequest) -> AWSResponse | None:
        if of not in request.url or not left[0]:
            return None
        left[0] -= 1
        body = f"<Error><Code>{code}</Code><Message>It is so.</Message></Error>".encode()
        return AWSResponse(request.url, status, {}, Raw(body))

    intercept(requests, what, handle)


def parts_sent(requests: S3Requests) -> list[int]:
    """The numbers of the parts that are sent from now on."""
    found: list[int] = []

    def note(request: AWSRequest) -> None:
        found.append(int(request.url.partition("partNumber=")[2].partition("&")[0]))

    intercept(requests, "UploadPart", note)
    return found
