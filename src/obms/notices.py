"""Telling people what went wrong: webhooks, e-mail and chat by Apprise, and a dead man's switch."""

# What tells is imported where something is told: most runs are not news.

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from obms.errors import ConfigurationError
from obms.observe import Clock, Event, Hook
from obms.retrying import tries

if TYPE_CHECKING:
    import httpx

WEB = ("http", "https")
REQUEST_SECONDS = 5.0
ATTEMPTS = 3
# A run waits no longer than this for all its notices together, whatever is at their other ends.
BOUND_SECONDS = 20.0
TITLES: Mapping[str, str] = {
    "backup.run": "a backup failed",
    "backup.refused": "a backup was refused: another run is at work",
    "backup.judged": "a backup was judged and is not good",
    "backup.removal_held": "no backup is removed: the newest shrank, or the clock leaped",
    "backup.removal_refused": "a store does not let what is too old be removed",
    "backup.removal_failed": "what is too old could not be removed from a store",
    "backup.reread": "an older backup, read again, is not what it was",
    "backup.copy_unswept": "what a killed run left in a store could not be removed",
    "backup.rekeyed": "not every backup could be encrypted to the new keys",
    "backup.stale": "there is no fresh proven backup",
    "backup.recovered": "good again: a proven backup was made after one that failed",
    "journal.failed": "a revocation could not be written into the journal",
    "journal.behind": "the journal of revocations is behind",
    "journal.unshipped": "a store does not take the journal of revocations",
    "journal.differs": "the journal of revocations no longer holds what a store has of it",
    "journal.not_dropped": "the journal of revocations keeps more days than it needs",
    "restore.revocations_unknown": "later revocations may be missing in what was restored",
    "restore.journal_doubtful": "lines of the journal were not believed in a restore",
    "restore.safety_left": "a safety backup that nobody needs was left by a restore that failed",
    "restore.unreadable": "a restore found a live database that cannot be read",
    "schedule.ended": "the schedule ended and is started again",
    "schedule.run_failed": "the schedule could not start what was due",
    "schedule.last_unknown": "the last run cannot be read: one that was missed is not made up for",
    "drill.done": "a drill was made",
    "backup.fresh": "good again: there is a fresh proven backup",
}
RUNS = ("backup.run", "drill.done")
GOOD_NEWS = ("backup.recovered", "backup.fresh")
# What is told by another event too, or is about the notices themselves.
UNTOLD = (
    "backup.copied",
    "backup.unrecorded",
    "schedule.look_failed",
    "notice.failed",
    "notice.delivered",
    "counters.failed",
    "metrics.failed",
)


class Undelivered(Exception):
    """It was not taken."""


class Teller(Protocol):
    """A place to tell; `place` names it without its secrets."""

    @property
    def place(self) -> str: ...

    def tell(self, event: Event, message: Mapping[str, Any]) -> None:
        """Undelivered, or an error of httpx, if it was not taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Gets each message as JSON."""

    url: str
    place: str

    def tell(self, event: Event, message: Mapping[str, Any]) -> None:
        import httpx

        _taken(httpx.post(self.url, json=message, timeout=REQUEST_SECONDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A dead man's switch: it raises the alarm when it hears nothing. `/fail` tells of a failure at once."""

    url: str
    place: str

    def tell(self, event: Event, message: Mapping[str, Any]) -> None:
        import httpx

        url = httpx.URL(self.url)
        failed = url.copy_with(path=url.path.rstrip("/") + "/fail")
        _taken(httpx.get(url if event.ok else failed, timeout=REQUEST_SECONDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """Everything that Apprise reaches."""

    apprise: Any
    place: str

    def tell(self, event: Event, message: Mapping[str, Any]) -> None:
        text = "\n".join(f"{name}: {value}" for name, value in message["facts"].items() if value)
        kind = "success" if event.ok else "failure"
        if not self.apprise.notify(title=message["title"], body=text or message["title"], notify_type=kind):
            raise Undelivered("it was not taken")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nobody:
    """A place that cannot be told."""

    place: str
    problem: str

    def tell(self, event: Event, message: Mapping[str, Any]) -> None:
        raise Undelivered(self.problem)


def _taken(answer: "httpx.Response") -> None:
    if not answer.is_success:
        raise Undelivered(f"it answered {answer.status_code}")


def open_teller(url: str) -> Teller:
    """What tells one URL of BACKUP_NOTIFY_URLS; ConfigurationError when nothing can."""
    scheme = _scheme(url)
    if scheme in WEB:
        return Webhook(url=url, place=_web_place(url))
    try:
        import apprise  # an extra
    except ImportError as error:
        raise ConfigurationError(
            detail=f"BACKUP_NOTIFY_URLS has a {scheme or 'nameless'} URL, and Apprise is not installed",
            hint="`pip install 'openbadges-modular-server[notify]'`.",
        ) from error
    target = apprise.Apprise()
    if not target.add(url):
        # Never the URL itself: it holds the password.
        raise ConfigurationError(
            detail=f"BACKUP_NOTIFY_URLS has a URL that Apprise does not know, {scheme or 'without scheme'}",
            hint="As in mailto://user:password@example.org?to=me@example.org, or https:// for a webhook.",
        )
    return Chat(apprise=target, place=f"{scheme}:")


def open_tellers(
    urls: Iterable[str], report: Hook, opener: Callable[[str], Teller] = open_teller
) -> tuple[Teller, ...]:
    """What tells each of them; for one that cannot be used a place that takes nothing, and `report` is told.

    No run and no restore fails for a notice.
    """
    found: list[Teller] = []
    for url in urls:
        try:
            found.append(opener(url))
        except ConfigurationError as error:
            place = f"{url.partition('://')[0]}:" if "://" in url else "?"
            found.append(Nobody(place=place, problem=str(error)))
            facts = {"to": place, "error": str(error), "hint": error.hint}
            report(Event(name="notice.failed", ok=False, facts=facts))
    return tuple(found)


def open_heartbeat(url: str) -> Teller:
    if _scheme(url) not in WEB:
        raise ConfigurationError(detail="BACKUP_HEARTBEAT_URL must be an http(s) URL")
    return Heartbeat(url=url, place=_web_place(url))


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError as error:
        detail = "BACKUP_NOTIFY_URLS or BACKUP_HEARTBEAT_URL has what is no URL"
        raise ConfigurationError(detail=detail) from error


def _web_place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notices:
    """The hook that tells people. What cannot be delivered never fails a run; `report` is told of it."""

    tellers: tuple[Teller, ...]
    heartbeats: tuple[Teller, ...]
    every_run: bool
    server: str
    version: str
    clock: Clock
    report: Hook
    bound: float = BOUND_SECONDS
    _told: set[str] = field(default_factory=set)

    def __call__(self, event: Event) -> None:
        tellers = list(self.tellers) if self._is_news(event) else []
        if _beats(event):
            tellers += self.heartbeats
        if tellers:
            self._deliver(event, tellers)

    def _is_news(self, event: Event) -> bool:
        if event.name in UNTOLD:
            return False
        if event.ok:
            return event.name in GOOD_NEWS or (self.every_run and event.name in RUNS)
        id = event.facts.get("id")
        if id is None:
            return True
        # The run that made a bad backup fails for it too: that is told once.
        known = str(id) in self._told
        self._told.add(str(id))
        return not known

    def _deliver(self, event: Event, tellers: Iterable[Teller]) -> None:
        """All at once, each tried again until the bound; what is not taken by then is given up."""
        message = self._message(event)
        deadline = time.monotonic() + self.bound
        tries = [_Try(teller=teller, event=event, message=message, bound=self.bound) for teller in tellers]
        for one in tries:
            one.start()
        failed: list[Event] = []
        for one in tries:
            one.join(max(0.0, deadline - time.monotonic()))
            problem = f"no answer in {self.bound:g} s" if one.is_alive() else one.problem
            facts = {"to": one.teller.place, "about": event.name}
            if problem:
                failed.append(Event(name="notice.failed", ok=False, facts={**facts, "error": problem}))
            else:
                self.report(Event(name="notice.delivered", facts=facts))
        for failure in failed:  # last: two may have the same place
            self.report(failure)

    def _message(self, event: Event) -> dict[str, Any]:
        title = TITLES.get(event.name, event.name)
        if event.name == "backup.run" and event.facts.get("proven"):
            made = "a proven backup was made"
            title = made if event.ok else f"{made}, and then something failed"
        if event.name == "backup.judged" and event.facts.get("outcome") == "unknown":
            title = "a backup could not be judged"
        if event.name == "drill.done" and not event.ok:
            title = "a drill failed: the server could not be recovered"
        return {
            "event": event.name,
            "ok": event.ok,
            "title": f"{self.server}: {title}",
            "server": self.server,
            "version": self.version,
            "at": self.clock().isoformat(),
            "facts": {name: _plain(value) for name, value in event.facts.items()},
        }


def _beats(event: Event) -> bool:
    """Each run that ended proven or failed; one that was told not to prove says nothing."""
    return event.name == "backup.run" and (not event.ok or bool(event.facts.get("proven")))


class _Try(Thread):
    """One delivery, in a thread that nobody has to wait for."""

    def __init__(self, *, teller: Teller, event: Event, message: Mapping[str, Any], bound: float) -> None:
        super().__init__(daemon=True)
        self.teller = teller
        self.problem = "it broke off"
        self._tell: Callable[[], None] = lambda: teller.tell(event, message)
        self._bound = bound

    def run(self) -> None:
        import httpx

        failures = (httpx.HTTPError, Undelivered)
        try:
            for attempt in tries(failures, attempts=ATTEMPTS, timeout=self._bound, first_pause=0.2):
                with attempt:
                    self._tell()
            self.problem = ""
        except Undelivered as error:
            self.problem = str(error)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self.problem = type(error).__name__  # its text may hold the URL, which is a secret


def _plain(value: object) -> object:
    """As JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)
