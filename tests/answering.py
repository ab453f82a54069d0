"""A small real HTTP server on loopback that gives set answers, good and hostile."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Bytes, of which each comes `pause` seconds after the one before where that is set."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    pause: float = 0.0


@dataclass(slots=True, kw_only=True)
class Answering:
    """The server; what it is asked is kept. `others` answers for paths that have no set answer."""

    address: str
    answers: dict[str, Answer]
    others: Callable[[str], Answer] = field(default=lambda _path: Answer(status=404))
    asked: list[str] = field(default_factory=list)


@contextmanager
def answering(**answers: Answer) -> Iterator[Answering]:
    """Answers by the name of the path; 404 for any other."""
    over = Event()

    class Asked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            answer = found.answers.get(self.path.strip("/").partition("?")[0]) or found.others(self.path)
            self.send_response(answer.status)
            length = {"Content-Length": str(len(answer.body)), "Content-Type": "application/json"}
            for name, value in (length | dict(answer.headers)).items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):
                self._give(answer)

        def _give(self, answer: Answer) -> None:
            if not answer.pause:
                self.wfile.write(answer.body)
            for place in range(len(answer.body) if answer.pause else 0):
                if over.wait(answer.pause):
                    return
                self.wfile.write(answer.body[place : place + 1])

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    server.daemon_threads = True
    found = Answering(address=f"http://127.0.0.1:{server.server_port}", answers=answers)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
