"""Which of two forms a client prefers, by its Accept headers (RFC 9110, section 12.5.1)."""

from collections.abc import Iterator

from fastapi import Request

# What JSON is asked for by.
JSON_NAMES = ("application/json", "application/vc", "application/*", "*/*")


def prefers(request: Request, wanted: str) -> bool:
    """Whether a media type is named, and JSON is not preferred to it."""
    named = other = 0.0
    for media_type, quality in _ranges(", ".join(request.headers.getlist("accept"))):
        if media_type == wanted:
            named = max(named, quality)
        elif media_type in JSON_NAMES or media_type.endswith("+json"):
            other = max(other, quality)
    return named > 0 and named >= other


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for part in accept.lower().split(","):
        media_type, *parameters = (each.strip() for each in part.split(";"))
        yield media_type, _quality(parameters)


def _quality(parameters: list[str]) -> float:
    """Between 0 and 1; what cannot be read is not wanted."""
    for name, _, value in (parameter.partition("=") for parameter in parameters):
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
