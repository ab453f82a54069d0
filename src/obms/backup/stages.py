"""How long each stage of a run takes, and which one it is in."""

import time

BEGINNING = "prepare"


class Stages:
    """A stopwatch of named stages, each of which ends where the next begins."""

    def __init__(self) -> None:
        self.current = BEGINNING
        self._began = self._since = time.monotonic()
        self._seconds: dict[str, float] = {}

    def begin(self, name: str) -> None:
        self._seconds = self.seconds
        self.current, self._since = name, time.monotonic()

    @property
    def seconds(self) -> dict[str, float]:
        """Of each stage until now; one that was begun twice counts both times."""
        passed = self._seconds.get(self.current, 0.0) + time.monotonic() - self._since
        return {**self._seconds, self.current: round(passed, 3)}

    @property
    def total(self) -> float:
        return round(time.monotonic() - self._began, 3)
