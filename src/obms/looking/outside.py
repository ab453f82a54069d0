"""A stranger's way to a server: its address, what was asked of it, and the keys it publishes."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from openbadgeslib.errors import LibOpenBadgesException
from openbadgeslib.ob3 import resolve_verification_method

from obms.errors import ServerUnreachable
from obms.specs import Json

JWT_TYPE = "application/vc+jwt"
SECONDS = 30.0
LONGEST_WAIT = 60.0


class Unfit(Exception):
    """The server answered what no verifier could use."""


@dataclass(slots=True, kw_only=True)
class Outside:
    """Asks a server, and counts; `broken` names the questions that it answered with a 5xx."""

    client: httpx.Client
    asked: int = 0
    broken: list[str] = field(default_factory=list)
    documents: dict[str, Json] = field(default_factory=dict)
    bits: dict[str, frozenset[int]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return str(self.client.base_url).rstrip("/")

    def get(self, path: str, *, key: str | None = None, accept: str = "application/json") -> httpx.Response:
        """The answer, whatever it is; ServerUnreachable if there is none."""
        headers = {"Accept": accept, **({"X-API-Key": key} if key else {})}
        try:
            answer = _ask(self.client, path, headers)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ServerUnreachable(url=self.url, detail=f"{path}: {error}".rstrip(".")) from error
        self.asked += 1
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.broken.append(f"{path} answers {answer.status_code}")
        return answer

    def read(self, path: str) -> Any:
        """The JSON that stands at a path, or Unfit."""
        answer = self.get(path)
        if answer.status_code != HTTPStatus.OK:
            raise Unfit(f"{path} answers {answer.status_code}")
        try:
            return answer.json()
        except ValueError:
            raise Unfit(f"{path} answers no JSON") from None

    def document(self, path: str) -> Json:
        """The JSON object that stands at a path; asked for once."""
        if path not in self.documents:
            found = self.read(path)
            if not isinstance(found, dict):
                raise Unfit(f"{path} answers no JSON object")
            self.documents[path] = found
        return self.documents[path]

    def public_key(self, method: str | None) -> str:
        """The key, in PEM, that the issuer's did:web document has under the name that a proof gives it.

        The name's host is that of the server that signed: a copy in a test environment is another.
        """
        did, _, fragment = (method or "").partition("#")
        issuer = did.rpartition(":issuers:")[2]
        document = self.document(f"/issuers/{issuer}/did.json")
        for found in _methods(document):
            if str(found.get("id")).endswith(f":issuers:{issuer}#{fragment}"):
                return pem_of(found)
        raise Unfit(f"/issuers/{issuer}/did.json does not hold the key {fragment}")


def _ask(client: httpx.Client, path: str, headers: Mapping[str, str]) -> httpx.Response:
    """Asked once more where the way broke, as a server ends connections that were idle; and after a 429."""
    try:
        answer = client.get(path, headers=headers)
    except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
        answer = client.get(path, headers=headers)
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        time.sleep(min(float(answer.headers.get("Retry-After") or 1), LONGEST_WAIT))
        answer = client.get(path, headers=headers)
    return answer


@contextmanager
def visiting(url: str) -> Iterator[Outside]:
    with httpx.Client(base_url=url.rstrip("/"), timeout=SECONDS) as client:
        yield Outside(client=client)


def _methods(document: Json) -> list[Mapping[str, Any]]:
    methods = document.get("verificationMethod")
    return [one for one in methods if isinstance(one, Mapping)] if isinstance(methods, list) else []


def pem_of(method: Mapping[str, Any]) -> str:
    """The key of a verification method, a Multikey or a JSON Web Key, as PEM; or Unfit."""
    multikey = method.get("publicKeyMultibase")
    try:
        if multikey is not None:
            return resolve_verification_method(f"did:key:{multikey}#{multikey}").decode()
        key: PublicKeyTypes = jwt.PyJWK.from_dict(dict(method["publicKeyJwk"])).key
    except (LibOpenBadgesException, jwt.PyJWTError, LookupError, TypeError, ValueError) as error:
        raise Unfit(f"the key {method['id']} cannot be read: {error}") from error
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
