"""From plain members, as JSON holds them, to the words of the domain."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

Kind = TypeVar("Kind")


def build(kind: type[Kind], values: Iterable[Any]) -> tuple[Kind, ...]:
    """A dataclass of each value, nested ones too; ValueError where one does not fit."""
    return tuple(_builder(kind).validate_python(value) for value in values)  # type: ignore[arg-type]


@lru_cache(maxsize=32)
def _builder(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
