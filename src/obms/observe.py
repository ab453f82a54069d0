"""What happened, as frozen data, handed to hooks: the log today, metrics and notices beside it."""

# structlog is imported where something is logged: most commands log nothing.

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something an operator may want to be told: `name` in dotted words, `ok` false where it went wrong."""

    name: str
    ok: bool = True
    facts: Mapping[str, object] = field(default_factory=dict)


Clock = Callable[[], datetime]
Hook = Callable[[Event], None]


def utc_now() -> datetime:
    return datetime.now(UTC)


def log_event(event: Event) -> None:
    """The hook that writes each event as one line to standard error."""
    import structlog

    if not structlog.is_configured():
        configure_logging()
    logger = structlog.get_logger("obms")
    (logger.info if event.ok else logger.error)(event.name, **event.facts)


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
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
