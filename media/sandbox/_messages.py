"""Messages between the caller and a sandboxed process, over one socket: a length of 4 bytes, then as much."""

import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from media.sandbox._limits import SandboxLimits

LENGTH = struct.Struct("=I")

MAX_ANSWER_BYTES = 16 << 20
"""A film's description with all its tags takes some kilobytes."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a sandboxed process is to do. Comes from the caller, so it may be a pickle."""

    function: Callable[..., Any]
    """Of a module, so that it has a name."""
    arguments: tuple[Any, ...]
    takes_port: bool
    """Whether its first argument is the `Port`, for functions that answer more than once."""
    limits: SandboxLimits
    readable: tuple[Path, ...]
    writable: tuple[Path, ...]
    served: tuple[tuple[Path, int], ...] = ()
    """Files that it reads through its caller: path and size, in the order of their numbers."""
    served_channel: int = 0
    """Which of the files handed over is the socket for that."""

    def to_message(self) -> bytes:
        """The whole message."""
        content = pickle.dumps(self)
        return LENGTH.pack(len(content)) + content


def read_request(channel: int) -> Request:
    """The request, in the process that is to do it.

    Raises:
        EOFError: The caller is gone.
    """
    (length,) = LENGTH.unpack(read_exactly(channel, LENGTH.size))
    request = pickle.loads(read_exactly(channel, length))
    assert isinstance(request, Request)
    return request


def read_exactly(channel: int, count: int) -> bytes:
    """Read this many bytes.

    Raises:
        EOFError: There are no more.
    """
    parts = []
    while count > 0:
        part = os.read(channel, min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def write_all(channel: int, data: bytes) -> None:
    """Write all of it. Not by `send`, which the system call filter refuses.

    Raises:
        BrokenPipeError: The other side is gone.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(channel, view) :]
