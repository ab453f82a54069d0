"""What else a route may answer, told in the OpenAPI document; most of it follows from what a route takes."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from obms.web.limits import FREE
from obms.web.tokens import JWT_TYPE

Responses = dict[int | str, dict[str, Any]]
JSON, PROBLEM_JSON, JWS_TYPE = "application/json", "application/problem+json", "application/jose"
# FastAPI tells of it wherever something is read; here what is not valid is a 400.
NOT_USED = str(int(HTTPStatus.UNPROCESSABLE_ENTITY))
MEANINGS = {
    HTTPStatus.BAD_REQUEST: "The request is not valid; `details` says for each field what is wrong.",
    HTTPStatus.UNAUTHORIZED: "Nobody is known by what was sent, or nothing was sent.",
    HTTPStatus.FORBIDDEN: "Who asks may not do that.",
    HTTPStatus.NOT_FOUND: "There is no such thing.",
    HTTPStatus.CONFLICT: "It contradicts what is kept, or something depends on it.",
    HTTPStatus.GONE: "The credential was revoked or deleted.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "It is no picture of a kind that is kept.",
    HTTPStatus.TOO_MANY_REQUESTS: "This client asks too often; `Retry-After` says when there is room again.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "An error of the server; the log has more under the `x-request-id`.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The database is away or is being replaced, or too much is fetched.",
}


class Problem(BaseModel):
    """An error (RFC 9457), with the members that older clients read beside."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["about:blank"])
    title: str
    status: int
    detail: str
    instance: str
    error: str
    success: bool | None = None
    message: str | None = None
    code: str | None = None
    details: dict[str, Any] | None = None


def of_types(status: int, *media_types: str) -> Responses:
    """An answer in one of these forms."""
    return {status: {"content": {media_type: {} for media_type in media_types}}}


def refused(*statuses: HTTPStatus) -> Responses:
    """Refusals that do not follow from what a route takes."""
    return {int(status): told(status) for status in statuses}


def told(status: HTTPStatus) -> dict[str, Any]:
    problem = {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}
    return {"description": MEANINGS[status], "content": {PROBLEM_JSON: problem}}


UNCHANGED: Responses = {304: {"description": "It is the one that If-None-Match names."}}
GONE = refused(HTTPStatus.GONE)
NO_KEY: Responses = {
    409: {**told(HTTPStatus.CONFLICT), "description": "The issuer has no key in use that could sign a token."}
}
SIGNED = of_types(200, JSON, JWT_TYPE, JWS_TYPE)
PICTURES = of_types(200, "image/png", "image/svg+xml")


def tell_refusals(document: dict[str, Any]) -> None:
    """Complete an OpenAPI document by the refusals of each operation."""
    schemas = document["components"]["schemas"]
    schemas[Problem.__name__] = Problem.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            responses.pop(NOT_USED, None)
            for status in refusals(method, path, operation):
                _add(responses, status)
            operation["responses"] = dict(sorted(responses.items()))


def refusals(method: str, path: str, operation: dict[str, Any]) -> Iterator[HTTPStatus]:
    """What an operation may refuse, as it is seen from what it takes."""
    yield HTTPStatus.INTERNAL_SERVER_ERROR
    yield HTTPStatus.SERVICE_UNAVAILABLE
    if path != FREE:
        yield HTTPStatus.TOO_MANY_REQUESTS
    if "{" in path:
        yield HTTPStatus.NOT_FOUND
    if "requestBody" in operation:
        yield HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    if "requestBody" in operation or any(each["in"] != "path" for each in operation.get("parameters", ())):
        yield HTTPStatus.BAD_REQUEST
    if "security" in operation:
        yield HTTPStatus.UNAUTHORIZED
        yield HTTPStatus.FORBIDDEN
        if method != "get":
            yield HTTPStatus.CONFLICT


def _add(responses: dict[str, Any], status: HTTPStatus) -> None:
    """Tell of it beside what the route itself tells of this status."""
    found = responses.setdefault(str(int(status)), told(status))
    found.setdefault("content", {}).update(told(status)["content"])
