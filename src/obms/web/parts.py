"""What the members of a body may be: texts, addresses, times, pictures, and how deep they nest."""

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)

from obms import domain
from obms.badges import people

NAME_LIMIT, TEXT_LIMIT, URL_LIMIT, LIST_LIMIT, DEPTH_LIMIT = 500, 20_000, 2_000, 50, 16
ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s\x00-\x20\x7f-\xa0<>\"{}|\\^`]+")
WEB = r"[Hh][Tt][Tt][Pp][Ss]?:\/\/[^\s\x00-\x20\x7f-\xa0<>\"{}|\\^`]*"
SURROGATE = re.compile("[\ud800-\udfff]")
YEARS = range(1000, 9999)


def storable(text: str) -> str:
    """Neither PostgreSQL nor a signature takes what is refused here."""
    if "\x00" in text:
        raise ValueError("must not contain the character NUL")
    if not text.isascii() and SURROGATE.search(text):
        raise ValueError("must be valid Unicode")
    return text


def _absolute(text: str) -> str:
    if not ABSOLUTE.fullmatch(text):
        raise ValueError("must be an absolute URL")
    return text


def _web(text: str) -> str:
    if not text.lower().startswith(("http://", "https://")):
        raise ValueError("must be an http(s) URL")
    return text


def _bounded(time: datetime) -> datetime:
    if time.year not in YEARS:
        raise ValueError(f"must be between the years {YEARS.start} and {YEARS.stop - 1}")
    return time.astimezone(UTC)


def as_object(value: Any) -> Any:
    """A bare address stands for the object that has it as its id."""
    return {"id": value} if isinstance(value, str) else value


def as_id(value: Any) -> Any:
    """An object stands for its id."""
    return value.get("id") if isinstance(value, dict) else value


def as_list(value: Any) -> Any:
    return value if isinstance(value, list) or value is None else [value]


def sound(value: Any, depth: int = 0) -> Any:
    """JSON of somebody else's that can be kept as it is, and does not nest without end."""
    if depth > DEPTH_LIMIT:
        raise ValueError(f"must not nest deeper than {DEPTH_LIMIT}")
    if isinstance(value, str):
        storable(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must hold numbers that JSON knows")
    elif isinstance(value, dict):
        for name, member in value.items():
            storable(name)
            sound(member, depth + 1)
    elif isinstance(value, list):
        for member in value:
            sound(member, depth + 1)
    return value


Name = Annotated[str, Field(min_length=1, max_length=NAME_LIMIT), AfterValidator(storable)]
Text = Annotated[str, Field(min_length=1, max_length=TEXT_LIMIT), AfterValidator(storable)]
# A pattern of its own before the validators, so that it stands in the OpenAPI document.
Address = Annotated[
    str,
    Field(min_length=1, max_length=URL_LIMIT, json_schema_extra={"pattern": f"^{ABSOLUTE.pattern}$"}),
    AfterValidator(storable),
    AfterValidator(_absolute),
]
WebAddress = Annotated[
    str,
    Field(min_length=1, max_length=URL_LIMIT, json_schema_extra={"pattern": f"^{WEB}$"}),
    AfterValidator(storable),
    AfterValidator(_absolute),
    AfterValidator(_web),
]
Email = Annotated[
    str, Field(min_length=1, max_length=NAME_LIMIT, pattern=people.EMAIL), AfterValidator(storable)
]
Time = Annotated[AwareDatetime, AfterValidator(_bounded)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,4}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$")]
Token = Annotated[str, Field(max_length=TEXT_LIMIT, pattern=r"^[\w-]+\.[\w-]+\.[\w-]+$")]


class Body(BaseModel):
    """A member that is not known here is refused: dropping it would sign less than was sent."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    context: Any = Field(None, alias="@context", exclude=True)
    type: Any = Field(None, exclude=True)


class ImageBody(Body):
    """A picture: `id` is where it is found (some say `url`)."""

    id: Address = Field(validation_alias=AliasChoices("id", "url"))
    caption: Text | None = None

    def to_domain(self) -> domain.Image:
        return domain.Image(url=self.id, caption=self.caption)


Picture = Annotated[ImageBody, BeforeValidator(as_object, json_schema_input_type=Address | ImageBody)]


def picture(body: ImageBody | None) -> domain.Image | None:
    return body.to_domain() if body else None
