"""The requests to S3 that the client has no call for: stale uploads, and the locks of objects.

Signed as S3 asks for ("Signature Version 4"), with the keys of the settings.
"""

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import unescape
from urllib.parse import quote, urlencode, urlsplit

import httpx

from obms.errors import StorageFailed, StoreRefused

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Requests:
    """One prefix of a bucket, and the key that opens it."""

    store: str
    endpoint: str
    bucket: str
    prefix: str
    region: str
    key: str = field(repr=False)
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    timeout: float = 60.0

    def uploads(self) -> Iterator[tuple[str, str]]:
        """The names of the uploads that were begun and not ended, each with its id; a thousand at most."""
        listed = self._send("GET", "", {"uploads": "", "prefix": self._path("")})
        for upload in re.findall(r"<Upload>(.*?)</Upload>", listed, re.DOTALL):
            key, id = (
                unescape(re.findall(f"<{tag}>(.*?)</{tag}>", upload)[0]) for tag in ("Key", "UploadId")
            )
            name = key.removeprefix(self._path(""))
            if "/" not in name:
                yield name, id

    def abort(self, name: str, id: str) -> None:
        """Have the parts of an upload forgotten."""
        self._send("DELETE", name, {"uploadId": id})

    def lock(self, name: str, until: datetime) -> None:
        """Let nobody remove this version of an object, or shorten that, before `until`."""
        rule = f"<Mode>COMPLIANCE</Mode><RetainUntilDate>{until:%Y-%m-%dT%H:%M:%SZ}</RetainUntilDate>"
        self._send(
            "PUT", name, {"retention": ""}, f'<Retention xmlns="{NAMESPACE}">{rule}</Retention>'.encode()
        )

    def locked_until(self, name: str) -> datetime:
        told = self._send("GET", name, {"retention": ""})
        return datetime.fromisoformat(re.findall("<RetainUntilDate>(.*?)<", told)[0])

    def _path(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _send(self, method: str, name: str, query: Mapping[str, str], body: bytes = b"") -> str:
        path = quote(f"/{self.bucket}/{self._path(name)}" if name else f"/{self.bucket}")
        sorted_query = urlencode(sorted(query.items()), quote_via=quote, safe="")
        headers = self._signed(method, path, sorted_query, body)
        try:
            answer = httpx.request(
                method,
                f"{self.endpoint}{path}?{sorted_query}",
                headers=headers,
                content=body,
                timeout=self.timeout,
            )
        except httpx.HTTPError as error:
            raise StorageFailed(detail=f"{self.store}: {str(error) or type(error).__name__}") from error
        if not answer.is_success:
            told = ": ".join(re.findall(r"<(?:Code|Message)>([^<]*)<", answer.text)) or answer.reason_phrase
            raise StoreRefused(store=self.store, detail=told.strip(" ."))
        return answer.text

    def _signed(self, method: str, path: str, query: str, body: bytes) -> dict[str, str]:
        now = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        headers = {
            "content-md5": b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode(),
            "host": urlsplit(self.endpoint).netloc,
            "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
            "x-amz-date": now,
        }
        if self.token:
            headers["x-amz-security-token"] = self.token
        names = ";".join(headers)
        lines = [method, path, query, *(f"{name}:{value}" for name, value in headers.items())]
        canonical = "\n".join([*lines, "", names, headers["x-amz-content-sha256"]])
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        to_sign = f"{ALGORITHM}\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{self.secret}".encode()
        for part in (*scope.split("/"), to_sign):
            key = hmac.digest(key, part.encode(), "sha256")
        credential = f"Credential={self.key}/{scope}"
        headers["authorization"] = f"{ALGORITHM} {credential}, SignedHeaders={names}, Signature={key.hex()}"
        return headers
