"""Reading what anybody may send: JSON within bounds, and the parts of a compact token."""

import base64
import binascii
import json
import math
from collections.abc import Iterator
from typing import Any

from obms.specs import Json

DEPTH_LIMIT, TEXT_LIMIT = 64, 256 * 1024
TOKEN_PARTS = 3


class Unreadable(Exception):
    """It is not what it should be; the text says why."""


def read_object(text: str | bytes) -> Json:
    """The JSON object in a text. Unreadable if it is none, is too deep, or holds what is no Unicode."""
    if len(text) > TEXT_LIMIT:
        raise Unreadable(f"it is larger than {TEXT_LIMIT} bytes")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable("it is no JSON") from error
    if not isinstance(value, dict):
        raise Unreadable("it is no JSON object")
    for depth, each in _walk(value):
        if depth > DEPTH_LIMIT:
            raise Unreadable(f"it is nested more than {DEPTH_LIMIT} levels deep")
        _check_scalar(each)
    return value


def _walk(value: Any) -> Iterator[tuple[int, Any]]:
    """Every value and every key, with its depth; without recursion, which a deep one would end."""
    waiting = [(1, value)]
    while waiting:
        depth, each = waiting.pop()
        yield depth, each
        if isinstance(each, dict):
            waiting += [(depth + 1, inner) for pair in each.items() for inner in pair]
        elif isinstance(each, list):
            waiting += [(depth + 1, inner) for inner in each]


def _check_scalar(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise Unreadable("it holds a number that is not finite")
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise Unreadable("it holds text that is no Unicode")


def is_token(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == TOKEN_PARTS and text.isascii() and all(parts) and not set(text) & set(" \n\t{<:/")


def read_token(token: str) -> tuple[Json, Json]:
    """The header and the payload of a compact token, its signature not checked."""
    if not is_token(token):
        raise Unreadable("it is no compact token")
    header, payload, _signature = token.split(".")
    return read_object(_decoded(header)), read_object(_decoded(payload))


def _decoded(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unreadable("it is no base64url") from error


def listed(value: Any) -> list[Any]:
    """What may be one or many, as many."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def id_of(value: Any) -> str | None:
    """The id of what stands as its address, or as an object with one."""
    found = value.get("id") if isinstance(value, dict) else value
    return found if isinstance(found, str) and found else None
