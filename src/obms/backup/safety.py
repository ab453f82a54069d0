"""The safety backup of what a restore replaces: made beside the other work, and complete."""

import json
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from threading import Event as Flag

from obms.backup import Backups
from obms.backup.create import Unwanted, create
from obms.backup.manifest import Manifest
from obms.backup.superseded import retire
from obms.backup.undo import RECORD, SAFETY
from obms.errors import BackupFailed, DatabaseUnreachable, ObmsError
from obms.observe import Event

Saved = Future[Manifest | None]


@dataclass(slots=True, kw_only=True)
class Safety:
    """A safety backup that is `being_made` until somebody waits for it; `made` is None where there is none.

    `overtaken` tells whether somebody has written to the live database since it was begun.
    """

    backups: Backups
    being_made: Saved | None
    overtaken: Callable[[], bool]
    made: Manifest | None = None

    @property
    def id(self) -> str | None:
        return self.made.id if self.made else None

    def wait(self) -> None:
        """Until it is made. What is whole and was not saved stops the restore; what is damaged does not."""
        if self.being_made is not None:
            self.made = self.being_made.result()
            self.being_made = None
        elif self.backups.database.exists():  # it has come into being since
            self.made = _save(self.backups, Flag())

    def catch_up(self, restored: str) -> None:
        """Make it anew if it lacks what was written meanwhile; for when nobody can write any more."""
        if self.made is None or not self.overtaken():
            return
        before, self.made = self.made, create(_in_a_hurry(self.backups), reason=SAFETY)
        self.record(restored)
        retire(self.backups, before.file)

    def record(self, restored: str) -> None:
        """Say what an `--undo` of this restore goes back to."""
        at = self.backups.clock().isoformat()
        record = {"restored": restored, "safety_backup": self.id, "at": at}
        self.backups.storage.put(RECORD, iter((json.dumps(record, indent=2).encode() + b"\n",)))


@contextmanager
def saving(backups: Backups) -> Generator[Safety]:
    """Back up what is live while the block goes on; taken back where that fails without waiting for it."""
    unwanted = Flag()
    with ExitStack() as stack:
        if not backups.database.exists():
            yield Safety(backups=backups, being_made=None, overtaken=lambda: False)
            return
        overtaken = stack.enter_context(backups.database.overtaken())
        beside = stack.enter_context(ThreadPoolExecutor(1))
        being_made = beside.submit(_save, backups, unwanted)
        safety = Safety(backups=backups, being_made=being_made, overtaken=overtaken)
        try:
            yield safety
        except BaseException:
            unwanted.set()
            with suppress(ObmsError, Unwanted):  # what made the block fail is told
                if safety.being_made and (made := being_made.result()):
                    retire(backups, made.file)
            raise


def _save(backups: Backups, unwanted: Flag) -> Manifest | None:
    """A backup of the live database; None where that is damaged."""
    try:
        return create(_in_a_hurry(backups), reason=SAFETY, unwanted=unwanted)
    except (BackupFailed, DatabaseUnreachable) as error:
        if not backups.database.damaged():
            raise
        facts = {"error": str(error), "next": "the live database is set aside, whole"}
        backups.notify(Event(name="restore.unreadable", ok=False, facts=facts))
        return None


def _in_a_hurry(backups: Backups) -> Backups:
    """The server waits for it, and the next restore takes its place."""
    return replace(backups, chain=backups.chain.quick)
