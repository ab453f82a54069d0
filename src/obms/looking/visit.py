"""What the tests of a running server share: the visit, and how a check of it is told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import jwt
from openbadgeslib.errors import LibOpenBadgesException

from obms.backup.manifest import Check
from obms.badges.signatures import BadSignature
from obms.looking.outside import Outside, Unfit
from obms.looking.samples import Sample

# What reading a document that is not what it should be may raise.
UNREADABLE = (
    Unfit,
    BadSignature,
    LibOpenBadgesException,
    jwt.PyJWTError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)
SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A server that is looked at, with the credentials to ask it for."""

    outside: Outside
    sample: Sample
    now: datetime


Step = Callable[[Visit], Check]


def take(name: str, step: Step, visit: Visit) -> Check:
    """The check, also where what it reads is not what it should be."""
    try:
        return step(visit)
    except UNREADABLE as error:
        return Check(name=name, ok=False, detail=said(error))


def checked(name: str, complaints: Sequence[str], figures: str, shown: int = SHOWN) -> Check:
    """A check that is fine without complaints; of many the first ones are told."""
    if not complaints:
        return Check(name=name, ok=True, detail=figures)
    more = f" and {len(complaints) - shown} more" if len(complaints) > shown else ""
    return Check(name=name, ok=False, detail="; ".join(complaints[:shown]) + more)


def said(error: BaseException) -> str:
    """One line of what was wrong."""
    plain = isinstance(error, Unfit | BadSignature)
    text = str(error) if plain else f"{type(error).__name__}: {error}"
    return (text.splitlines() or [type(error).__name__])[0][:300]
