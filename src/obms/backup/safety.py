"""The safety backup of what a restore replaces: made beside the other work, and complete."""

import json
from collections.abc import Callable, Generator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillAtIt
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from threading import Event as Flag
from threading import Thread

from obms.backup import Backups
from obms.backup.create import create
from obms.backup.manifest import Manifest
from obms.backup.superseded import retire
from obms.backup.undo import RECORD, SAFETY
from obms.errors import BackupFailed, DatabaseUnreachable, StorageFailed
from obms.observe import Event

GRACE_SECONDS = 3.0  # for one that nobody wants any more; what it leaves then, the next run removes


@dataclass(slots=True, kw_only=True)
class Safety:
    """A safety backup that is `being_made`; once that was waited for it is `made`, or there is none.

    `overtaken` tells whether somebody has written to the live database since it was begun, `problem`
    why there is none of a damaged one.
    """

    backups: Backups
    being_made: Future[Manifest | None] | None
    unwanted: Flag = field(default_factory=Flag)
    overtaken: Callable[[], bool] = lambda: False
    made: Manifest | None = None
    problem: str = ""
    recorded: bool = False

    @property
    def id(self) -> str | None:
        return self.made.id if self.made else None

    def make(self) -> Manifest | None:
        """A backup of the live database, quickly, for the server waits for it; None where that is damaged."""
        hurried = replace(self.backups, chain=self.backups.chain.quick)
        try:
            return create(hurried, reason=SAFETY, unwanted=self.unwanted)
        except (BackupFailed, DatabaseUnreachable) as error:
            if not self.backups.database.damaged():
                raise
            self.problem = str(error)
            return None

    def wait(self) -> None:
        """Until it is made. What is whole and was not saved stops the restore; what is damaged does not."""
        assert self.being_made is not None
        self.made = self.being_made.result()
        self.being_made = None

    def settle(self, restored: str) -> None:
        """Make it anew if it lacks what was written meanwhile; for when nobody can write any more."""
        before = self.made
        if before is not None and self.overtaken():
            self.made = self.make() or before
        self.record(restored)
        if before is not None and before is not self.made:
            retire(self.backups, before.file)

    def record(self, restored: str) -> None:
        """Say what an `--undo` of this restore goes back to."""
        at = self.backups.clock().isoformat()
        record = {"restored": restored, "safety_backup": self.id, "at": at}
        self.backups.storage.put(RECORD, iter((json.dumps(record, indent=2).encode() + b"\n",)))
        self.recorded = True

    def take_back(self) -> None:
        """What nobody waits for goes again; what made the restore fail is told, and not this."""
        self.unwanted.set()
        if self.being_made is None:
            return
        try:
            failed = self.being_made.exception(GRACE_SECONDS)
            if failed is None and (made := self.being_made.result()):
                retire(self.backups, made.file)
        except (StillAtIt, StorageFailed) as error:
            why = "it is still being made" if isinstance(error, StillAtIt) else str(error)
            facts = {"error": f"the safety backup was not taken back: {why}"}
            self.backups.notify(Event(name="restore.safety_left", ok=False, facts=facts))


@contextmanager
def saving(backups: Backups) -> Generator[Safety]:
    """Back up what is live while the block goes on; taken back where that fails without waiting for it."""
    with ExitStack() as stack:
        safety = Safety(backups=backups, being_made=Future())
        # Not waited for at the end of the process: it may wait for a lock of somebody's.
        Thread(target=_begin, args=(safety, stack), daemon=True).start()
        try:
            yield safety
        except BaseException:
            safety.take_back()
            raise


def _begin(safety: Safety, stack: ExitStack) -> None:
    future = safety.being_made
    assert future is not None
    try:
        made = None
        if safety.backups.database.exists():
            safety.overtaken = stack.enter_context(safety.backups.database.overtaken())
            made = safety.make()
    except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
        future.set_exception(error)
    else:
        future.set_result(made)
