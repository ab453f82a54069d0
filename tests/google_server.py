"""A stand-in for Google Cloud Storage: its XML API, and its keys, in front of the S3 server of the tests.

No server that can be installed speaks the XML API in whole, least of all its uploads in parts. Google
made it after that of S3: what differs, as far as the client uses it, is translated here, and the objects
are kept by a real server. The key is checked as Google does, by the signature on the token.
"""

import base64
import json
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode

import httpx
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from obms.backup.s3_access import REGION
from tests.s3_server import BUCKET, HOST, S3Server

PASSED = ("range", "if-match", "if-none-match")
ANSWERED = ("etag", "content-range", "content-type", "last-modified")
DENIED = b"<Error><Code>AuthenticationRequired</Code><Message>Authentication required.</Message></Error>"
NOWHERE = b"<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist.</Message></Error>"


def write_account(path: Path, key: rsa.RSAPrivateKey) -> Path:
    """The file of a service account, as Google gives it out."""
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "private_key": pem.decode(),
        "private_key_id": "1",
        "client_email": "tests@tests.iam.gserviceaccount.com",
    }
    path.write_text(json.dumps(account), encoding="ascii")
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """Who may come in, and where the objects are."""

    key: rsa.RSAPublicKey
    s3: S3Server
    client: httpx.Client

    def admits(self, authorization: str) -> bool:
        signed, _, signature = authorization.removeprefix("Bearer ").rpartition(".")
        try:
            found = base64.urlsafe_b64decode(signature + "==")
            self.key.verify(found, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, ValueError):
            return False
        return True

    def lacks(self, path: str) -> bool:
        """Whether there is no such object: Google, unlike S3, says so where it is to be removed."""
        return "?" not in path and self.ask("HEAD", path, {}, b"").status_code == HTTPStatus.NOT_FOUND

    def ask(self, method: str, target: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        path, _, given = target.partition("?")
        path = quote(unquote(path))
        query = urlencode(sorted(parse_qsl(given, keep_blank_values=True)), quote_via=quote, safe="")
        url = f"{self.s3.endpoint}{path}?{query}"
        signed = AWSRequest(method, url, data=body)
        S3SigV4Auth(Credentials(self.s3.key, self.s3.secret), "s3", REGION).add_auth(signed)
        return self.client.request(method, url, headers=headers | dict(signed.headers), content=body)


def answering(front: Front) -> type[BaseHTTPRequestHandler]:
    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if not front.admits(self.headers.get("authorization", "")):
                self._send(401, {}, len(DENIED), DENIED)
                return
            if not re.match(rf"/{BUCKET}[/?]", self.path):
                self._send(404, {}, len(NOWHERE), NOWHERE)
                return
            if self.command == "DELETE" and front.lacks(self.path):
                self._send(404, {}, len(NOWHERE), NOWHERE)
                return
            asked = {name: self.headers[name] for name in PASSED if name in self.headers}
            if self.headers.get("x-goog-if-generation-match") == "0":
                asked["if-none-match"] = "*"
            told = front.ask(self.command, self.path, asked, body)
            headers = {name: told.headers[name] for name in ANSWERED if name in told.headers}
            self._send(told.status_code, headers, int(told.headers.get("content-length", 0)), told.content)

        def _send(self, status: int, headers: dict[str, str], size: int, body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(size if self.command == "HEAD" else len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - names of http.server

    return Answering


@contextmanager
def running_google(s3: S3Server) -> Iterator[tuple[int, Path]]:
    """Its port, and the file of an account that it lets in."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with tempfile.TemporaryDirectory(prefix="obms-gs-") as folder, httpx.Client(timeout=20) as client:
        front = Front(key=key.public_key(), s3=s3, client=client)
        server = ThreadingHTTPServer((HOST, 0), answering(front))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1], write_account(Path(folder) / "account.json", key)
        finally:
            server.shutdown()
            server.server_close()
