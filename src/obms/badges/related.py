"""Resources that a credential names with a digest (VC data model, section 5.3). None is fetched for it."""

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from openvc.multibase import MultibaseError, b58btc_decode

from obms.specs import ob3
from obms.specs.vcdm import CONTEXT, listed

# The contexts that are at hand as they were published, byte for byte.
AT_HAND = {CONTEXT: "credentials-v2.json", ob3.CONTEXT[1]: "ob-v3p0-context-3.0.3.json"}
ALGORITHMS = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}
# What a multihash begins with: its algorithm, and how long the digest is.
MULTIHASHES = {b"\x12\x20": "sha256", b"\x20\x30": "sha384", b"\x13\x40": "sha512"}
LENGTHS = {32: "sha256", 48: "sha384", 64: "sha512"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """A resource whose digest is wrong, or could not be compared."""

    id: str
    differs: bool


def judge(document: Mapping[str, Any]) -> Iterator[Related]:
    """All resources whose digest was not found right."""
    for resource in listed(document.get("relatedResource")):
        id = str(resource.get("id"))
        told = [*_of_sri(resource.get("digestSRI")), *_of_multibase(resource.get("digestMultibase"))]
        content = content_of(id)
        if content is None or not told:
            yield Related(id=id, differs=content is not None)
        elif any(ALGORITHMS[name](content).digest() != digest for name, digest in told):
            yield Related(id=id, differs=True)


@cache
def content_of(url: str) -> bytes | None:
    """What is at an address, where it is at hand."""
    name = AT_HAND.get(url)
    return resources.files("openbadgeslib.ob3.contexts").joinpath(name).read_bytes() if name else None


def _of_sri(value: object) -> Iterator[tuple[str, bytes]]:
    """Subresource Integrity: `sha384-` and base64, which some write in the alphabet for URLs."""
    for each in value.split() if isinstance(value, str) else ():
        name, _, text = each.partition("-")
        if name in ALGORITHMS:
            yield name, _base64(text.partition("?")[0])


def _of_multibase(value: object) -> Iterator[tuple[str, bytes]]:
    """A multihash, or the bare digest, whose length tells what it is."""
    if not isinstance(value, str) or value[:1] not in ("u", "z"):
        return
    try:
        found = _base64(value[1:]) if value[0] == "u" else b58btc_decode(value[1:])
    except MultibaseError:
        found = b""
    if name := MULTIHASHES.get(found[:2]):
        yield name, found[2:]
    else:
        yield LENGTHS.get(len(found), "sha256"), found


def _base64(text: str) -> bytes:
    """Nothing, which is no digest, for what is no base64."""
    plain = text.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        return base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4))
    except (binascii.Error, ValueError):
        return b""
