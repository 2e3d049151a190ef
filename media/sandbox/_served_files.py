"""Files that lie elsewhere, read by a sandboxed process through its caller, a piece at a time.

The process has no network and no file but those it is given. So it asks over a socket for bytes of a file by
its number, and its caller answers. What the caller cannot get, it does not answer: the process ends, and the
caller's own error is the one that is told, not what a demuxer makes of missing bytes.
"""

import contextlib
import os
import socket
import stat
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from media.sandbox._messages import LENGTH, read_exactly, write_all

# Number of the file, offset, length.
_QUESTION = struct.Struct("=BQI")
_PIECE_BYTES = 256 << 10
# A demuxer goes back and forth between tracks that lie apart.
_NUM_KEPT = 8
# Longer answers are waiting for a network, which says nothing about the file; shorter ones are reading, of
# which a hostile file may ask for any amount.
_QUICK_SECONDS = 0.1


class Content(Protocol):
    """Bytes that lie somewhere."""

    @property
    def size_bytes(self) -> int:
        """How many."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Those of a range that lies within; what is raised ends the process that asked, and is raised by
        whoever waits for it. Thread-safe."""
        ...


class FileServer:
    """The caller's side: answers one process, in a thread of its own.

    Args:
        channel: Socket to the process.
        contents: The files by number.
        on_error: Called when a file cannot be read.
    """

    def __init__(
        self, channel: socket.socket, contents: Sequence[Content], on_error: Callable[[], None]
    ) -> None:
        self.error: Exception | None = None
        """Why a file could not be read."""
        self._channel, self._contents, self._on_error = channel, contents, on_error
        self._seconds_waited, self._asked_at = 0.0, float("inf")
        threading.Thread(target=self._serve, name="dovetail-served-files", daemon=True).start()

    @property
    def seconds_waited(self) -> float:
        """How long the process has waited for answers that took long."""
        return self._seconds_waited + max(0.0, time.monotonic() - self._asked_at - _QUICK_SECONDS)

    def close(self) -> None:
        """Stop answering. Does not wait for an answer that is being looked for."""
        with contextlib.suppress(OSError):  # the process is gone
            self._channel.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        with self._channel, contextlib.suppress(EOFError, OSError):
            while True:
                question = _QUESTION.unpack(read_exactly(self._channel.fileno(), _QUESTION.size))
                try:
                    answer = self._find(*question)
                except Exception as error:
                    self.error = error
                    self._on_error()
                    return
                write_all(self._channel.fileno(), answer)

    def _find(self, number: int, offset: int, length: int) -> bytes:
        content = self._contents[number]
        length = max(0, min(length, _PIECE_BYTES, content.size_bytes - offset))
        self._asked_at = time.monotonic()
        data = content.read(offset, length) if length else b""
        waited, self._asked_at = self.seconds_waited, float("inf")
        self._seconds_waited = waited
        return LENGTH.pack(len(data)) + data


class ServedFile:
    """The process's side of one file.

    Args:
        channel: Descriptor of the socket to the caller, which all files share.
        number: Of the file.
        size_bytes: Of the file.
    """

    def __init__(self, channel: int, number: int, size_bytes: int) -> None:
        self._channel, self._number, self.size_bytes = channel, number, size_bytes
        self._pieces: OrderedDict[int, bytes] = OrderedDict()

    def read_into(self, buffer: Any, position: int) -> int:
        """Fills a buffer, or its beginning, from a place in the file on; returns how many bytes."""
        start = position // _PIECE_BYTES * _PIECE_BYTES
        data = self._piece(start)[position - start :][: len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def stat(self) -> os.stat_result:
        """As of a file on the disk."""
        return os.stat_result((stat.S_IFREG | stat.S_IRUSR, 0, 0, 1, 0, 0, self.size_bytes, 0, 0, 0))

    def _piece(self, start: int) -> bytes:
        if start >= self.size_bytes:
            return b""
        if start in self._pieces:
            self._pieces.move_to_end(start)
            return self._pieces[start]
        write_all(self._channel, _QUESTION.pack(self._number, start, _PIECE_BYTES))
        (length,) = LENGTH.unpack(read_exactly(self._channel, LENGTH.size))
        piece = self._pieces[start] = read_exactly(self._channel, length)
        if len(self._pieces) > _NUM_KEPT:
            self._pieces.popitem(last=False)
        return piece
