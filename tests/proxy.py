"""A TCP proxy with the faults of a network: connections that are cut, that stall, bytes that change."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

HOST = "127.0.0.1"
PIECE = 1 << 16
BODY = 4096  # bytes; what comes in larger pieces is part of an image, not of a list


@dataclass(slots=True, kw_only=True)
class Proxy:
    """Passes bytes to and from `target`, until a fault is set.

    `cut_after`: the bytes a connection may send before it is cut; `cuts` how many are.
    `stall_after`: the bytes it may send before nothing moves any more; `stall_at`: what a
    piece has in it that is not passed on. `flip`: the last byte of each large piece that
    comes back is changed. `delay`: the seconds that a piece is on its way to the target.
    """

    target: int
    port: int = 0
    cut_after: int | None = None
    cuts: int = 1_000_000
    stall_after: int | None = None
    stall_at: bytes | None = None
    flip: bool = False
    delay: float = 0.0
    sent: int = 0
    connections: int = 0
    stalled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    def accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.connections += 1
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection((HOST, self.target)) as server:
            back = threading.Thread(target=self._answer, args=(server, client), daemon=True)
            back.start()
            self._forward(client, server)
            back.join()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        passed = 0
        while piece := client.recv(PIECE):
            passed += len(piece)
            self.sent += len(piece)
            self.ended.wait(self.delay)
            full = self.stall_after is not None and passed > self.stall_after
            if full or (self.stall_at is not None and self.stall_at in piece):
                self.stalled.set()
                self.ended.wait()
            if self.cut_after is not None and passed > self.cut_after and self.cuts > 0:
                self.cuts -= 1
                # Both ends, so that the thread of the answers ends too.
                server.shutdown(socket.SHUT_RDWR)
                client.shutdown(socket.SHUT_RDWR)
                return
            server.sendall(piece)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while piece := server.recv(PIECE):
                changed = self.flip and len(piece) > BODY
                client.sendall(piece[:-1] + bytes([piece[-1] ^ 1]) if changed else piece)
            client.shutdown(socket.SHUT_WR)


@contextmanager
def proxy_to(target: int) -> Iterator[Proxy]:
    with socket.create_server((HOST, 0)) as listener:
        proxy = Proxy(target=target, port=int(listener.getsockname()[1]))
        threading.Thread(target=proxy.accept, args=(listener,), daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.ended.set()
            listener.shutdown(socket.SHUT_RDWR)
