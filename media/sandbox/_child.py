"""The life of a sandboxed process, from the fork on: confine itself, do the one thing asked for, answer."""

import errno
import fcntl
import os
import signal
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from media.errors import InputMemoryError, MediaError, SandboxError
from media.sandbox._confinement import confine, die_with_parent, renew_cpu_limit
from media.sandbox._messages import LENGTH, read_exactly, read_request, write_all
from media.sandbox._served_files import ServedFile
from media.sandbox._wire import encode

_SIGN_OF_LIFE_SECONDS = 1.0

# The channel and the files handed over have these numbers in every child; 0, 1 and 2 are the null device.
CHANNEL = 3
FIRST_FILE = 4

_WORKING_DIRECTORY = Path("/proc/self/cwd")


class Port:
    """The sandboxed side of a conversation, for functions that answer more than once."""

    def __init__(self, *, cpu_seconds: int) -> None:
        self._cpu_seconds = cpu_seconds
        self._last_sign = time.monotonic()

    @property
    def file(self) -> int:
        """Descriptor of the first file that was handed over."""
        return FIRST_FILE

    def send(self, kind: str, *values: object) -> None:
        """Say something to the caller."""
        data = encode((kind, *values))
        write_all(CHANNEL, LENGTH.pack(len(data)) + data)
        self._last_sign = time.monotonic()

    def receive_byte(self) -> int:
        """Wait for a byte from the caller.

        Raises:
            EOFError: The caller is gone.
        """
        return read_exactly(CHANNEL, 1)[0]

    def show_life(self) -> None:
        """Say that there is progress, though nothing to show for it; at most once a second."""
        if time.monotonic() - self._last_sign >= _SIGN_OF_LIFE_SECONDS:
            self.renew_cpu_limit()
            self.send("alive")

    def renew_cpu_limit(self) -> None:
        """Start counting processor time anew."""
        renew_cpu_limit(self._cpu_seconds)


def run(channel: int, files: Sequence[int], *, parent: int) -> None:
    """Live the whole life of a child; does not return.

    Args:
        channel: Socket to the caller.
        files: Descriptors to keep open for the function.
        parent: The process that forked this one.
    """
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent(parent)
        _keep_only(channel, files)
        _do_request()
    except (EOFError, BrokenPipeError):
        pass  # nobody waits for an answer
    finally:
        os._exit(0)


def _do_request() -> None:
    request = read_request(CHANNEL)
    port = Port(cpu_seconds=request.limits.cpu_seconds)
    try:
        missing = confine(
            request.limits,
            readable=request.readable,
            writable=request.writable,
            served={
                path: ServedFile(FIRST_FILE + request.served_channel, number, size)
                for number, (path, size) in enumerate(request.served)
            },
            renews_cpu_limit=request.takes_port,
        )
    except OSError as error:
        port.send("error", SandboxError.__name__, f"the sandbox cannot be put up: {error}")
        return
    port.send("ready", missing)
    warnings.simplefilter("ignore")
    try:
        arguments = tuple(_reachable(argument, request.writable) for argument in request.arguments)
        if request.takes_port:
            arguments = (port, *arguments)
        answer: tuple[Any, ...] = ("result", request.function(*arguments))
    except (EOFError, BrokenPipeError):
        raise
    except Exception as error:
        answer = ("error", *_describe(error))
    port.send(*answer)


def _reachable(argument: Any, writable: Sequence[Path]) -> Any:
    """An argument; a path in the folder to write in as one that does not lead through folders of root."""
    if not (writable and isinstance(argument, Path) and argument.is_relative_to(writable[0])):
        return argument
    is_there = os.access(writable[0], os.W_OK | os.X_OK)
    return argument if is_there else _WORKING_DIRECTORY / argument.relative_to(writable[0])


def _describe(error: Exception) -> tuple[str, str]:
    """Name and message of the error that the caller gets."""
    if isinstance(error, MediaError):
        return type(error).__name__, str(error)
    if _is_lack_of_memory(error):
        return InputMemoryError.__name__, "reading the input takes more memory than it may"
    reason = f"{type(error).__name__}: {error}"
    return SandboxError.__name__, f"reading the input failed in an unforeseen way ({reason})"


def _is_lack_of_memory(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch has an error of its own for GPUs only
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _keep_only(channel: int, files: Sequence[int]) -> None:
    """Close everything that was open in the parent, and give what stays its fixed number."""
    null = os.open(os.devnull, os.O_RDWR)
    # First out of the way of the numbers they are to have.
    kept = [fcntl.fcntl(fd, fcntl.F_DUPFD, 16) for fd in (null, null, null, channel, *files)]
    for number, fd in enumerate(kept):
        os.dup2(fd, number)
    os.closerange(len(kept), os.sysconf("SC_OPEN_MAX"))
