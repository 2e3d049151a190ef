"""A network line that can be watched and cut: a TCP proxy between the browser and a server."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Line:
    """Forwards connections to a port of this machine.

    Attributes:
        bytes_up: Bytes forwarded from browsers to the server so far.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._budget: int | None = None
        self._is_closed = False
        self.was_cut = threading.Event()
        self.bytes_up = 0
        self._start(self._accept)

    @property
    def port(self) -> int:
        """Where browsers connect."""
        return int(self._listener.getsockname()[1])

    def cut_after(self, num_bytes: int) -> None:
        """Break the connection that carries the n-th byte from now on, without a word to either side."""
        self._budget = num_bytes

    def cut(self) -> None:
        """Break all connections that are open now."""
        for open_socket in list(self._sockets):
            _drop(open_socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_closed = True
        # A thread in accept() is woken by a connection only.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()
        self.cut()
        for thread in list(self._threads):
            thread.join(timeout=10)
        self._listener.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._is_closed:
            browser, _ = self._listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                browser.close()
                continue
            self._sockets |= {browser, server}
            self._start(self._pump, browser, server, True)
            self._start(self._pump, server, browser, False)

    def _pump(self, source: socket.socket, target: socket.socket, is_up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(32_768):
                if is_up:
                    if self._is_cut(len(data)):
                        break
                    self.bytes_up += len(data)
                target.sendall(data)
        # Both directions end together; HTTP has no use for half a connection.
        for end in (source, target):
            _drop(end)
        source.close()
        self._sockets.discard(source)

    def _is_cut(self, num_bytes: int) -> bool:
        if self._budget is None:
            return False
        self._budget -= num_bytes
        if self._budget >= 0:
            return False
        self._budget = None
        self.was_cut.set()
        return True


def _drop(open_socket: socket.socket) -> None:
    with contextlib.suppress(OSError):
        open_socket.shutdown(socket.SHUT_RDWR)
