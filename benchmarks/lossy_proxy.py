"""A proxy between clients and Redis that loses answers: the command has run, and its client never hears it.

It understands as much of RESP as is needed to tell which answer belongs to which command.
"""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from typing import Literal

Command = list[bytes]
"""A command's name and arguments."""
Fate = Literal["arrival", "loss", "silence"]
"""What becomes of an answer."""

# From here on answers come without a command.
_SUBSCRIBING = frozenset({b"SUBSCRIBE", b"PSUBSCRIBE", b"MONITOR"})
# After its answer a replica's connection is bytes, which are passed on as they come.
_REPLICATING = b"PSYNC"
_AGGREGATES = {b"*": 1, b"~": 1, b">": 1, b"%": 2}
_BLOCK_BYTES = 1 << 16


def runs(script: str) -> Callable[[Command], bool]:
    """Commands that run a script, by its text."""
    digest = hashlib.sha1(script.encode()).hexdigest().encode()
    return lambda command: runs_any_script(command) and command[1] in (digest, script.encode())


def runs_any_script(command: Command) -> bool:
    """Whether a command runs a script."""
    return command[0].upper() in (b"EVAL", b"EVALSHA")


class LossyProxy:
    """Forwards connections to a Redis server, and loses answers when it is told to.

    Args:
        target_port: Of the server, on the loopback interface. While it is away, connections are closed.

    Attributes:
        port: Its own.
        num_lost: Answers that were lost so far.
    """

    def __init__(self, target_port: int) -> None:
        self.num_lost = 0
        self._target_port = target_port
        self._doomed: list[tuple[Callable[[Command], bool], bool]] = []
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._connections: list[_Connection] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Of the store's database, by way of the proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def lose_answer(
        self, fits: Callable[[Command], bool], *, times: int = 1, is_silent: bool = False
    ) -> None:
        """Loses the answers to the next commands that fit, and closes the connections they came on.

        Args:
            fits: Tells which commands.
            times: How many.
            is_silent: Whether the connections stay open, and nothing comes any more.
        """
        with self._lock:
            self._doomed += [(fits, is_silent)] * times

    def close(self) -> None:
        """Ends all connections."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()
        for connection in self._connections:
            connection.end()
            connection.join()

    def fate_of(self, command: Command) -> Fate:
        """What is to become of the answer to a command."""
        with self._lock:
            for doom in self._doomed:
                if doom[0](command):
                    self._doomed.remove(doom)
                    return "silence" if doom[1] else "loss"
        return "arrival"

    def put_back(self, command: Command, fate: Fate) -> None:
        """Loses the answer to the same command later: this time it did not run."""
        self.lose_answer(lambda other: other == command, is_silent=fate == "silence")

    def count_lost(self) -> None:
        """Notes that an answer was lost."""
        with self._lock:
            self.num_lost += 1

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self._connections = [one for one in self._connections if one.is_alive()]
                try:
                    server = socket.create_connection(("127.0.0.1", self._target_port))
                except OSError:
                    client.close()
                    continue
                connection = _Connection(self, client, server)
                connection.start()
                self._connections.append(connection)


class _Connection(threading.Thread):
    def __init__(self, proxy: LossyProxy, client: socket.socket, server: socket.socket) -> None:
        super().__init__(daemon=True)
        self._proxy, self._client, self._server = proxy, client, server
        self._commands: list[tuple[Command, Fate]] = []
        self._is_subscribing = False
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        """Forwards until one side ends."""
        answers = threading.Thread(target=self._run, args=(self._forward_answers,), daemon=True)
        with self._client, self._server:
            answers.start()
            self._run(self._forward_commands)
            answers.join()

    def end(self) -> None:
        """Closes both sides."""
        for side in (self._client, self._server):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def _run(self, forward: Callable[[], None]) -> None:
        with suppress(OSError, EOFError):
            forward()
        self.end()

    def _forward_commands(self) -> None:
        with self._client.makefile("rb") as file:
            while True:
                raw, command = _read_command(file)
                if command[0].upper() in _SUBSCRIBING:
                    self._is_subscribing = True
                self._commands.append((command, self._proxy.fate_of(command)))
                self._server.sendall(raw)
                if command[0].upper() == _REPLICATING:
                    _pass_on(file, self._server)

    def _forward_answers(self) -> None:
        with self._server.makefile("rb") as file:
            while True:
                raw = _read_value(file)
                if self._is_subscribing or raw.startswith(b">"):
                    self._client.sendall(raw)
                    continue
                command, fate = self._commands.pop(0)
                if fate != "arrival" and not raw.startswith(b"-NOSCRIPT"):
                    self._proxy.count_lost()
                    if fate == "loss":
                        return
                    continue
                if fate != "arrival":  # where the script was not there, nothing has run
                    self._proxy.put_back(command, fate)
                self._client.sendall(raw)
                if command[0].upper() == _REPLICATING:
                    _pass_on(file, self._client)


def _pass_on(file: BufferedReader, end: socket.socket) -> None:
    while data := file.read1(_BLOCK_BYTES):
        end.sendall(data)
    raise EOFError


def _read_line(file: BufferedReader) -> bytes:
    line = file.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    return line


def _read_command(file: BufferedReader) -> tuple[bytes, Command]:
    raw = line = _read_line(file)
    command = []
    for _ in range(int(line[1:])):
        line = _read_line(file)
        content = file.read(int(line[1:]) + 2)
        command.append(content[:-2])
        raw += line + content
    return raw, command


def _read_value(file: BufferedReader) -> bytes:
    line = _read_line(file)
    kind, number = line[:1], line[1:]
    if kind in (b"$", b"=", b"!"):
        return line if int(number) < 0 else line + file.read(int(number) + 2)
    if kind in _AGGREGATES:
        count = max(0, int(number)) * _AGGREGATES[kind]
        return line + b"".join(_read_value(file) for _ in range(count))
    return line


@contextmanager
def lossy_proxy(target_port: int) -> Iterator[LossyProxy]:
    """A proxy to a Redis server on this machine."""
    proxy = LossyProxy(target_port)
    try:
        yield proxy
    finally:
        proxy.close()
