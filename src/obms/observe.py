"""What happened, as frozen data, handed to hooks: the log today, metrics and notices beside it."""

# structlog is imported where something is logged: most commands log nothing.

import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something an operator may want to be told: `name` in dotted words, `ok` false where it went wrong."""

    name: str
    ok: bool = True
    facts: Mapping[str, object] = field(default_factory=dict)


Clock = Callable[[], datetime]
Hook = Callable[[Event], None]
# The id of the request that is being answered: each line that is logged meanwhile names it.
ANSWERED: ContextVar[str | None] = ContextVar("ANSWERED", default=None)


def utc_now() -> datetime:
    return datetime.now(UTC)


def log_event(event: Event) -> None:
    """The hook that writes each event as one line to standard error."""
    (logger().info if event.ok else logger().error)(event.name, **event.facts)


def log_failure(event: Event) -> None:
    """The hook that logs what went wrong, and nothing else."""
    if not event.ok:
        log_event(event)


def logger() -> "FilteringBoundLogger":
    """What writes to the log."""
    import structlog

    if not structlog.is_configured():
        configure_logging()
    made: FilteringBoundLogger = structlog.get_logger("obms")
    return made


def name_request(_logger: object, _level: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The processor of structlog that adds ANSWERED to a line."""
    request_id = ANSWERED.get()
    return line if request_id is None else {"request_id": request_id, **line}


def every(*hooks: Hook) -> Hook:
    """The hook that hands each event to all of them, in their order."""

    def hand_on(event: Event) -> None:
        for hook in hooks:
            hook(event)

    return hand_on


def no_event(_event: Event) -> None:
    """The hook of a command that tells its user itself."""


def configure_logging() -> None:
    """Logs go to standard error, as lines of key=value, so that standard output stays the command's."""
    import structlog

    structlog.configure(
        processors=[
            name_request,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
