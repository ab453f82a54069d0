"""Writers of one process, one after the other, whose work is committed together.

A commit waits for the disk, and on SQLite there is one writer at a time. So the writers that wait take
turns within one transaction, each in a savepoint of its own, and nobody goes on before the commit.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from threading import Event, Lock

import sqlalchemy as sa

from obms.databases import writing

MEMBERS = 32
SECONDS = 0.05
# SQLite lets other processes try for the lock now and then, and is not fair: some of the time it is free.
PAUSE_SECONDS = 0.005


def writers(engine: sa.Engine) -> Callable[[], AbstractContextManager[sa.Connection]]:
    """How the many writers of one process work; PostgreSQL brings commits together by itself."""
    if engine.dialect.name == "sqlite":
        return SharedCommits(engine).writing
    return partial(writing, engine)


class _Group:
    """One transaction, and what became of it; `problem` is there where nothing of it was kept."""

    def __init__(self, engine: sa.Engine) -> None:
        self.connection = engine.connect()
        self.began = time.monotonic()
        self.members = 0
        self.over = Event()
        self.problem: Exception | None = None
        try:
            self.connection.begin()
        except BaseException:
            self.connection.close()
            raise

    def is_full(self) -> bool:
        return self.members >= MEMBERS or time.monotonic() - self.began >= SECONDS

    def end(self) -> None:
        """Commit; where it cannot be done, everybody in the group is told."""
        try:
            if self.problem is None:
                self.connection.commit()
        except sa.exc.SQLAlchemyError as error:
            self.problem = error
        finally:
            if self.problem is not None:
                # Whatever state its session is in, nobody is to get it again; closed, it is undone.
                self.connection.invalidate()
            self.connection.close()
            self.over.set()


class SharedCommits:
    """The writers of an engine."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine.execution_options(writing=True)
        self._turn = Lock()
        self._count = Lock()
        self._waiting = 0
        self._group: _Group | None = None

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A unit of work. Once it has ended it is committed; it raises if it is not.

        What fails in it is undone alone, unless the whole transaction is lost with it.
        """
        self._take_turn()
        group = None
        try:
            if self._group is None:
                self._group = _Group(self.engine)
            group = self._group
            with _own_part(group):
                yield group.connection
        finally:
            self._pass_on()
        group.over.wait()
        if group.problem is not None:
            raise group.problem

    def _take_turn(self) -> None:
        with self._count:
            self._waiting += 1
        self._turn.acquire()
        with self._count:
            self._waiting -= 1

    def _pass_on(self) -> None:
        """To the next one, within the same transaction if there is one who waits, and room."""
        group = self._group
        if group is not None and (not self._waiting or group.is_full() or group.problem):
            self._group = None
            group.end()
            if group.is_full():
                time.sleep(PAUSE_SECONDS)
        self._turn.release()


@contextmanager
def _own_part(group: _Group) -> Iterator[None]:
    """A savepoint; where it can be neither kept nor undone, the transaction is lost, and all in it."""
    part = group.connection.begin_nested()
    try:
        yield
    except BaseException:
        with _losing(group):
            part.rollback()
        raise
    with _losing(group):
        part.commit()
    group.members += 1


@contextmanager
def _losing(group: _Group) -> Iterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        group.problem = error
        raise
