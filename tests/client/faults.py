"""A proxy between client and service that does what networks do: cut, change, delay, refuse."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

Kind = Literal["cut_request", "cut_answer", "change_request", "change_answer", "answer"]


@dataclass
class Fault:
    """Something that happens to the next request that fits, once.

    Attributes:
        method: Of the request.
        path: How its path begins.
        after_bytes: Of the request or answer, head included, that go through before it happens.
        text: For "answer": what the client hears instead of the service.
    """

    kind: Kind
    method: str
    path: str = "/"
    after_bytes: int = 0
    text: str = ""

    def fits(self, data: bytes) -> bool:
        return data.startswith(f"{self.method} {self.path}".encode())


def refusal(
    method: str, path: str, status: int, *, code: str = "unavailable", retry_after: str | None = None
) -> Fault:
    """A problem instead of the service's answer."""
    body = f'{{"code": "{code}", "title": "Not now", "detail": "come back later", "status": {status}}}'
    later = "" if retry_after is None else f"Retry-After: {retry_after}\r\n"
    head = f"HTTP/1.1 {status} No\r\nContent-Type: application/problem+json\r\n{later}"
    text = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    return Fault("answer", method, path, text=text)


class FaultyProxy:
    """Forwards connections to a port.

    Attributes:
        faults: What is still to happen.
        happened: What did.
    """

    def __init__(self, port: int) -> None:
        self.faults: list[Fault] = []
        self.happened: list[Fault] = []
        self._port = port
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def take(self, data: bytes) -> Fault | None:
        """The fault of a request that begins so."""
        with self._lock:
            for fault in self.faults:
                if fault.fits(data):
                    self.faults.remove(fault)
                    self.happened.append(fault)
                    return fault
        return None

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                _Connection(self, client, socket.create_connection(("127.0.0.1", self._port)))


class _Connection:
    def __init__(self, proxy: FaultyProxy, client: socket.socket, service: socket.socket) -> None:
        self._proxy, self._client, self._service = proxy, client, service
        self._fault: Fault | None = None
        self._num_bytes = 0
        for end in (client, service):
            # Or a request in two pieces waits for an acknowledgement that is delayed.
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for function in (self._forward_requests, self._forward_answers):
            threading.Thread(target=self._run, args=(function,), daemon=True).start()

    def _run(self, function: object) -> None:
        with suppress(OSError):
            function()  # type: ignore[operator]
        for end in (self._client, self._service):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _forward_requests(self) -> None:
        while data := self._client.recv(2**16):
            found = self._proxy.take(data)
            if found is not None:
                self._fault, self._num_bytes = found, 0
            if self._fault is not None and self._fault.kind == "answer":
                return self._answer(data, self._fault.text)
            if self._is_due("cut_request", data):
                return self._cut()
            if self._is_due("change_request", data):
                data, self._fault = _changed(data), None
            self._service.sendall(data)
        return None

    def _forward_answers(self) -> None:
        while data := self._service.recv(2**16):
            if self._is_due("cut_answer", data):
                return  # without a reset, which would take back what the client has not read yet
            if self._is_due("change_answer", data):
                data, self._fault = _changed(data), None
            self._client.sendall(data)
        return

    def _is_due(self, kind: Kind, data: bytes) -> bool:
        if self._fault is None or self._fault.kind != kind:
            return False
        self._num_bytes += len(data)
        return self._num_bytes > self._fault.after_bytes

    def _answer(self, data: bytes, text: str) -> None:
        """Answers after the whole request has come, as a service behind a balancer does."""
        while b"\r\n\r\n" not in data:
            data += self._client.recv(2**16)
        head, _, body = data.partition(b"\r\n\r\n")
        lines = [line.lower() for line in head.split(b"\r\n")]
        length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
        while len(body) < length:
            body += self._client.recv(2**16)
        self._client.sendall(text.encode())

    def _cut(self) -> None:
        """Resets the connection, so that the client notices at once."""
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@contextmanager
def faulty_proxy(port: int) -> Iterator[FaultyProxy]:
    """A proxy to a port of this machine."""
    proxy = FaultyProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
