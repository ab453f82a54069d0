"""Errors as answers: RFC 9457 problem JSON with the members that existing clients read."""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from obms.databases import MOVED
from obms.errors import DatabaseUnreachable, Gone, Invalid, ObmsError, TooManyRequests
from obms.observe import logger

Members = dict[str, Any]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
RETRY_AFTER = "1"
MOVED_AWAY = "25006"  # read-only: the database was moved, and this is what is left
# undefined table, column, schema; what a database says whose content is being replaced or is another's
SQLSTATES_OF_ABSENCE = ("42P01", "42703", "3F000", "3D000", "57P01", "57P02", "57P03", MOVED_AWAY)


def answer(
    request: Request, status: int, detail: str, members: Members, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The one form of every error."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        **members,
    }
    found = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        found["Retry-After"] = RETRY_AFTER
    if request_id := request.scope.get("state", {}).get("request_id"):
        found["x-request-id"] = request_id
    return JSONResponse(body, status, found, media_type="application/problem+json")


def refusal(status: int, detail: str) -> Members:
    """The members older clients read of an error that has none of its own."""
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return {"success": False, "error": detail.rstrip(".")}
    return {"error": HTTPStatus(status).phrase, "message": detail}


def invalid(fields: Mapping[str, list[str]]) -> Members:
    return {"success": False, "error": "Validation error", "details": dict(fields)}


def of_error(request: Request, error: ObmsError) -> JSONResponse:
    detail = str(error)
    if isinstance(error, Invalid):
        return answer(request, error.status, detail, invalid(error.fields))
    if isinstance(error, Gone):
        members = {
            "error": detail,
            "code": error.facts.get("code", error.code),
            "details": {"id": error.facts["id"], "revocationReason": error.facts.get("reason")},
        }
        return answer(request, error.status, detail, {**members, **_mapping(error.facts.get("document"))})
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log(request, error)
    return answer(request, error.status, detail, refusal(error.status, detail), _headers(error))


def _headers(error: ObmsError) -> dict[str, str] | None:
    if isinstance(error, TooManyRequests):
        return {"Retry-After": str(error.facts["seconds"])}
    return {"WWW-Authenticate": "ApiKey"} if error.status == HTTPStatus.UNAUTHORIZED else None


def _mapping(value: object) -> Members:
    return dict(value) if isinstance(value, Mapping) else {}


def of_validation(request: Request, error: RequestValidationError) -> JSONResponse:
    fields = messages_of(error.errors())
    return answer(request, HTTPStatus.BAD_REQUEST, "The request is not valid.", invalid(fields))


def messages_of(errors: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What is wrong, by field, of what pydantic found."""
    fields: dict[str, list[str]] = {}
    for found in errors:
        name = ".".join(str(part) for part in found["loc"] if part not in ("body", "query", "path"))
        fields.setdefault(name or "body", []).append(str(found["msg"]).removeprefix("Value error, "))
    return fields


def of_http(request: Request, error: HTTPException) -> JSONResponse:
    detail, headers = str(error.detail), error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := methods_of(request)):
        headers = {"Allow": ", ".join(methods)}
    return answer(request, error.status_code, detail, refusal(error.status_code, detail), headers)


def methods_of(request: Request) -> list[str]:
    """All that may be asked of a path; the framework tells of the first route only that has it."""
    app: FastAPI = request.app
    paths, path = app.openapi()["paths"], request.url.path
    # `batch` in the place of an id is no id, so a path is first looked for as it is.
    found: Members = paths.get(path) or next((paths[each] for each in paths if _is_like(path, each)), {})
    # What can be got can be asked for by HEAD.
    return [method for method in METHODS if method.replace("HEAD", "GET").lower() in found]


def _is_like(path: str, template: str) -> bool:
    return re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), path) is not None


def of_database(request: Request, error: sa.exc.SQLAlchemyError) -> JSONResponse:
    """503 while the database is away or is being replaced; the next request finds it again by itself."""
    if is_away(error):
        return of_error(
            request, DatabaseUnreachable(detail="it does not answer, or its tables are not there")
        )
    if isinstance(error, sa.exc.IntegrityError):
        detail = "This contradicts what is kept, or something depends on it."
        return answer(request, HTTPStatus.CONFLICT, detail, refusal(HTTPStatus.CONFLICT, detail))
    return of_bug(request, error)


def is_away(error: BaseException) -> bool:
    """Whether an error means that the database cannot be used now, rather than that a statement is wrong."""
    if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.TimeoutError):
        return True
    if isinstance(error, sa.exc.IntegrityError) and MOVED in str(error.orig):
        return True
    if not isinstance(error, sa.exc.DBAPIError):
        return isinstance(error, DatabaseUnreachable)
    if error.connection_invalidated or getattr(error.orig, "sqlstate", None) in SQLSTATES_OF_ABSENCE:
        return True
    # SQLite raises the bare class for a file that is damaged or is no database.
    return type(error) is sa.exc.DatabaseError


def of_bug(request: Request, error: Exception) -> JSONResponse:
    _log(request, error)
    detail = "Something unexpected happened. The log has more under the x-request-id of this answer."
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return answer(request, status, detail, refusal(status, detail))


def _log(request: Request, error: Exception) -> None:
    logger().error("request failed", method=request.method, path=request.url.path, exc_info=error)


def install(app: FastAPI) -> None:
    """Have the application answer each kind of error by its own function."""
    app.add_exception_handler(ObmsError, of_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, of_validation)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, of_http)  # type: ignore[arg-type]
    app.add_exception_handler(sa.exc.SQLAlchemyError, of_database)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, of_bug)
