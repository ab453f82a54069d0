# mypy: ignore-errors
"""Runs 1EdTech's validator core in its own environment; what it fetches is asked for over the pipe.

(Which has other libraries than the tests, so that mypy cannot read this file.)
Lines of JSON: the input comes first, then each `fetch` is answered, and the `report` ends it.
"""

import base64
import collections
import collections.abc
import inspect
import io
import json
import sys
from typing import Any

# The judge and its libraries are older than Python 3.10, which took these away; nothing in them is changed.
for _name in ("Callable", "Hashable", "Iterable", "Mapping", "MutableMapping", "MutableSequence", "Sequence"):
    if not hasattr(collections, _name):
        setattr(collections, _name, getattr(collections.abc, _name))
if not hasattr(inspect, "getargspec"):
    inspect.getargspec = inspect.getfullargspec

import requests  # noqa: E402
from openbadges.verifier import verifier  # noqa: E402
from openbadges.verifier.openbadges_context import (  # noqa: E402
    OPENBADGES_CONTEXT_V2_DICT,
    OPENBADGES_CONTEXT_V2_URI,
)
from openbadges_bakery import unbake  # noqa: E402
from requests.adapters import BaseAdapter  # noqa: E402

_pipe = sys.stdout
sys.stdout = sys.stderr


def _say(message: dict[str, Any]) -> None:
    _pipe.write(json.dumps(message) + "\n")
    _pipe.flush()


class Pipe(BaseAdapter):
    """The only way out: the pinned context, or what the other end of the pipe gives."""

    def send(self, request: Any, **_options: Any) -> Any:
        answer = requests.Response()
        answer.request, answer.url = request, request.url
        if request.url == OPENBADGES_CONTEXT_V2_URI:
            given = {"status": 200, "type": "application/ld+json", "body": ""}
            body = json.dumps(OPENBADGES_CONTEXT_V2_DICT).encode()
        else:
            _say({"fetch": request.url, "accept": request.headers.get("Accept")})
            given = json.loads(sys.stdin.readline())
            body = base64.b64decode(given["body"])
        if given["status"] == 0:
            raise requests.ConnectionError(request.url)
        answer.status_code = given["status"]
        answer.headers["Content-Type"] = given["type"]
        answer.raw = io.BytesIO(body)
        return answer

    def close(self) -> None:
        pass


requests.sessions.HTTPAdapter = Pipe


def _badge(asked: dict[str, Any]) -> Any:
    """Out of a picture by the judge's own bakery; of SVG it gives bytes, which the judge cannot read."""
    if "picture" not in asked:
        return asked["text"]
    found = unbake(io.BytesIO(base64.b64decode(asked["picture"])))
    return found.decode() if isinstance(found, bytes) else found


_asked = json.loads(sys.stdin.readline())
_report = verifier.verify(
    _badge(_asked), recipient_profile=_asked.get("recipient"), use_cache=False, cache_backend=None
)
_say({"report": _report})
