"""A load generator that is not the bottleneck: clients that each send the next request when answered.

`python -m benchmarks.load plan.json`, a process of its own; what it saw goes to standard output as JSON.
"""

import asyncio
import json
import re
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import uvloop

LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
HEAD_END = b"\r\n\r\n"


class Client(asyncio.Protocol):
    """One connection; it keeps the seconds of each answer, and the statuses of those that were not wanted."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.received = b""
        self.sent_at = 0.0
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)
        self._send()

    def _send(self) -> None:
        assert self.transport is not None
        self.sent_at = time.perf_counter()
        self.transport.write(next(self.run.requests))

    def data_received(self, data: bytes) -> None:
        self.received = self.received + data if self.received else data
        if (end := self.received.find(HEAD_END)) < 0:
            return
        length = LENGTH.search(self.received, 0, end)
        if len(self.received) < end + len(HEAD_END) + (int(length[1]) if length else 0):
            return
        status, self.received = int(self.received[9:12]), b""
        if self.run.note(status, time.perf_counter() - self.sent_at):
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self.run.leave()


class Run:
    """All clients for a time; the requests go round among them. What was asked by then is still answered."""

    def __init__(self, plan: dict[str, Any], over: "asyncio.Future[None]") -> None:
        self.requests = cycle([text.encode("latin-1") for text in plan["requests"]])
        self.wanted = plan["status"]
        self.asking = plan["clients"]
        self.over = over
        self.late = False
        self.seconds: list[float] = []
        self.wrong: dict[int, int] = {}

    def note(self, status: int, seconds: float) -> bool:
        """Whether to go on."""
        self.seconds.append(seconds)
        if status != self.wanted:
            self.wrong[status] = self.wrong.get(status, 0) + 1
        if self.late:
            self.leave()
        return not self.late

    def leave(self) -> None:
        self.asking -= 1
        if self.asking == 0 and not self.over.done():
            self.over.set_result(None)

    def end(self) -> None:
        self.late = True


async def play(plan: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    run = Run(plan, loop.create_future())
    began = time.perf_counter()
    loop.call_later(plan["seconds"], run.end)
    transports = [
        (await loop.create_connection(lambda: Client(run), "127.0.0.1", plan["port"]))[0]
        for _ in range(plan["clients"])
    ]
    await run.over
    took = time.perf_counter() - began
    for transport in transports:
        transport.close()
    ordered = sorted(run.seconds)
    return {
        "count": len(ordered),
        "seconds": took,
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[len(ordered) * 99 // 100],
        "wrong": run.wrong,
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(play(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))))
