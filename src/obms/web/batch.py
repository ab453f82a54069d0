"""Up to a hundred credentials in one request: each is judged on its own, all are committed at once."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from obms.backup.journal import Entry
from obms.badges import access, credentials
from obms.badges.batching import Outcome, issue_many
from obms.errors import Invalid, ObmsError
from obms.server import Server
from obms.specs import Json, iso
from obms.web.answers import JSON, Responses
from obms.web.context import TheActor, TheServer, read_id, reading, writing
from obms.web.credentials import find_standing
from obms.web.forms import Form, TheForm
from obms.web.models import CredentialBody
from obms.web.orders import order_of
from obms.web.problems import messages_of
from obms.web.standing import ROLES, StandingBody, set_standing

router = APIRouter(tags=["batch"])
NONE_ISSUED: Responses = {200: {"description": "None of them could be issued.", "content": {JSON: {}}}}
LIMIT, IDS_LENGTH = 100, 10_000
CODES = {400: "VALIDATION_ERROR", 403: "FORBIDDEN", 404: "NOT_FOUND", 409: "CONFLICT"}


class BatchBody(BaseModel):
    """The items are read one by one, so that a bad one does not spoil the others."""

    model_config = ConfigDict(extra="forbid")

    credentials: Annotated[list[Any], Field(min_length=1, max_length=LIMIT)]


class StandingsBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    updates: Annotated[list[Any], Field(min_length=1, max_length=LIMIT)]


class UpdateBody(StandingBody):
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one item: its data, or the error."""

    index: int
    id: str | None
    data: Any = None
    error: Json | None = None

    def shown(self) -> Json:
        found: Json = {"id": self.id, "index": self.index, "success": self.error is None}
        return found | ({"data": self.data} if self.error is None else {"error": self.error})


def _attempt(index: int, id: str | None, work: Callable[[], tuple[str | None, Any]]) -> Result:
    """Do the work for one item; a deliberate error is its result, any other ends the batch."""
    try:
        id, data = work()
    except ValidationError as error:
        return Result(index=index, id=id, error=_told("VALIDATION_ERROR", messages_of(error.errors())))
    except Invalid as error:
        return Result(index=index, id=id, error=_told("VALIDATION_ERROR", error.fields))
    except ObmsError as error:
        code = error.code or CODES.get(error.status, "ERROR")
        return Result(index=index, id=id, error={"code": code, "message": str(error)})
    return Result(index=index, id=id, data=data)


def _told(code: str, fields: dict[str, list[str]]) -> Json:
    """The first field that is wrong, and what is wrong with all of them."""
    message = "; ".join(f"{name}: {', '.join(found)}" for name, found in fields.items())
    return {"code": code, "message": message, "field": next(iter(fields), "")}


def _answer(server: Server, results: Sequence[Result], begun: float, status: int = 200) -> JSONResponse:
    failed = sum(result.error is not None for result in results)
    return JSONResponse(
        {
            "results": [result.shown() for result in results],
            "summary": {
                "total": len(results),
                "successful": len(results) - failed,
                "failed": failed,
                "processingTimeMs": round((time.monotonic() - begun) * 1000, 3),
            },
            "metadata": {
                "batchId": str(uuid.uuid4()),
                "timestamp": iso(server.site.clock()),
                "version": server.version,
            },
        },
        status,
    )


@router.post("/credentials/batch", status_code=201, responses=NONE_ISSUED)
def create_credentials(body: BatchBody, server: TheServer, actor: TheActor, form: TheForm) -> JSONResponse:
    """Issue up to 100 credentials; 201 if one was issued, and 200 if none was."""
    begun = time.monotonic()
    read = [
        _attempt(index, None, partial(_order, server, item)) for index, item in enumerate(body.credentials)
    ]
    good = [result for result in read if result.error is None]
    with writing(server) as connection:
        orders = [result.data for result in good]
        outcomes = issue_many(connection, server.site, orders, lambda id: actor.require(id, *ROLES))
        kept = [each for each in outcomes if isinstance(each, credentials.Kept)]
        shown = iter(form.credentials(connection, kept))
        access.record_all(connection, server.site, actor, "credential.issue", [each.id for each in kept])
    for result, outcome in zip(good, outcomes, strict=True):
        read[result.index] = _attempt(result.index, None, partial(_issued, outcome, shown))
    return _answer(server, read, begun, 201 if kept else 200)


def _order(server: Server, item: Any) -> tuple[str | None, Any]:
    return None, order_of(server, CredentialBody.model_validate(item))


def _issued(outcome: Outcome, shown: Iterator[Json]) -> tuple[str, Any]:
    if isinstance(outcome, ObmsError):
        raise outcome
    return outcome.id, next(shown)


@router.get("/credentials/batch")
def read_credentials(
    server: TheServer,
    _actor: TheActor,
    form: TheForm,
    ids: Annotated[str, Query(min_length=1, max_length=IDS_LENGTH, description="Up to 100, between commas.")],
) -> JSONResponse:
    begun = time.monotonic()
    wanted = [id.strip() for id in ids.split(",") if id.strip()]
    if not 1 <= len(wanted) <= LIMIT:
        raise Invalid(ids=[f"must be 1 to {LIMIT} ids"])

    with reading(server) as connection:
        results = [
            _attempt(index, id, partial(_read, connection, form, id)) for index, id in enumerate(wanted)
        ]
    return _answer(server, results, begun)


def _read(connection: sa.Connection, form: Form, id: str) -> tuple[str, Any]:
    kept = find_standing(connection, read_id("credential", id), form)
    if form.signs:
        return kept.id, credentials.read_document(kept)
    return kept.id, form.credentials(connection, [kept])[0]


@router.put("/credentials/batch/status")
def change_standings(body: StandingsBody, server: TheServer, actor: TheActor) -> JSONResponse:
    """Revoke, suspend or lift the suspension of up to 100 credentials."""
    begun = time.monotonic()
    entries: list[Entry] = []
    with writing(server) as connection:
        results = [
            _attempt(index, _id_of(item), partial(_change, connection, server, actor, item, entries))
            for index, item in enumerate(body.updates)
        ]
    # As for one: after the commit, and before the answer.
    server.keep(entries)
    return _answer(server, results, begun)


def _id_of(item: Any) -> str | None:
    id = item.get("id") if isinstance(item, dict) else None
    return id if isinstance(id, str) else None


def _change(
    connection: sa.Connection, server: Server, actor: access.Actor, item: Any, entries: list[Entry]
) -> tuple[str, Any]:
    body = UpdateBody.model_validate(item)
    id = read_id("credential", body.id)
    with connection.begin_nested():
        told, entry = set_standing(connection, server, actor, id, body)
    entries.append(entry)
    return id, told
