"""A small real HTTP server on loopback, which keeps what it is asked."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any


@dataclass(slots=True, kw_only=True)
class Listener:
    """What it was asked, and what it answers: the statuses in turn, the last one from then on.

    While `open` is not set it takes requests, and does not answer them.
    """

    address: str = ""
    statuses: list[int] = field(default_factory=lambda: [204])
    asked: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    open: Event = field(default_factory=Event)

    @property
    def port(self) -> str:
        return self.address.rsplit(":", 1)[1]


@contextmanager
def listening(*statuses: int) -> Iterator[Listener]:
    listener = Listener(statuses=list(statuses) or [204])
    listener.open.set()

    class Asked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._keep(b"")

        def do_POST(self) -> None:
            self._keep(self.rfile.read(int(self.headers["Content-Length"])))

        def _keep(self, body: bytes) -> None:
            listener.asked.append((self.command, self.path))
            listener.bodies.append(json.loads(body) if body else None)
            listener.open.wait()
            status = listener.statuses.pop(0) if len(listener.statuses) > 1 else listener.statuses[0]
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    listener.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield listener
    finally:
        listener.open.set()
        server.shutdown()
        server.server_close()
        thread.join()
