"""The caller's side of one sandboxed process."""

import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any

from media import errors
from media.errors import InputTimeoutError, MediaError, SandboxError
from media.sandbox._messages import LENGTH, MAX_ANSWER_BYTES
from media.sandbox._served_files import Content, FileServer
from media.sandbox._wire import WireError, decode

# How long the end of a process takes to be noticed, at most: killing one that holds gigabytes takes a while.
_FAREWELL_SECONDS = 10.0

_ENDINGS: dict[int, str] = {
    signal.SIGKILL: "it was killed, perhaps because the machine ran out of memory",
    signal.SIGXFSZ: "it tried to write more than it may",
}


class SandboxedProcess:
    """A running process; made by `Sandbox.start`. One thread talks to it, any may call `kill`.

    Args:
        channel: Socket to the process.
        lifeline: Socket to the fork server: says how the process ended, and ends it when closed.
        server: The fork server, which lives at least as long as this object.
        cpu_seconds: Its limit, for messages.
    """

    def __init__(
        self, channel: socket.socket, lifeline: socket.socket, *, server: object, cpu_seconds: int
    ) -> None:
        self._channel, self._lifeline, self._server = channel, lifeline, server
        self._cpu_seconds = cpu_seconds
        self._buffer = bytearray()
        self._files: FileServer | None = None

    def serve(self, channel: socket.socket, contents: Sequence[Content]) -> None:
        """Answer the process's questions for files that lie elsewhere; before it runs.

        Args:
            channel: Socket to the process.
            contents: The files by number.
        """
        self._files = FileServer(channel, contents, on_error=self.kill)

    def receive(self, *, timeout: float) -> tuple[Any, ...]:
        """The next message: a kind and its values.

        Args:
            timeout: Seconds to wait, besides those for which the process itself waits for files that lie
                elsewhere. After that it is killed.

        Raises:
            Exception: What kept a file that lies elsewhere from being read.
            MediaError: The one raised in the process; `InputTimeoutError` where the time is over;
                `SandboxError` where the process is gone or answers nonsense.
        """
        try:
            message = decode(self._receive_bytes(_Deadline(timeout, self._files)))
        except TimeoutError:
            self.kill()
            raise InputTimeoutError(
                f"reading the input was stopped after {timeout:g} s without a result; the file is damaged, "
                "or larger than can be read here"
            ) from None
        except (EOFError, OSError):
            self.kill()
            self._raise_what_files_lack()
            raise self._explain_end() from None
        except WireError as error:
            self.kill()
            raise SandboxError(f"the process that reads the input answered nonsense: {error}") from error
        # Until it is ended it may have taken missing bytes for the end of the file, and finished.
        self._raise_what_files_lack()
        if not isinstance(message, tuple) or not message:
            self.kill()
            raise SandboxError("the process that reads the input answered nonsense: no message")
        if message[0] == "error":
            raise _rebuild(message)
        return message

    def send(self, data: bytes, *, timeout: float) -> None:
        """Send bytes; where the process is gone, the next `receive` says so."""
        self._channel.settimeout(timeout)
        try:
            self._channel.sendall(data)
        except TimeoutError:
            self.kill()
        except OSError:
            return

    def kill(self) -> None:
        """End the process, if it has not ended yet. Safe from any thread."""
        try:
            self._lifeline.shutdown(socket.SHUT_WR)
        except OSError:
            return  # closed, or the other side is

    def close(self) -> None:
        """End the process and give the sockets back."""
        self.kill()
        self._channel.close()
        self._lifeline.close()
        if self._files is not None:
            self._files.close()

    def _raise_what_files_lack(self) -> None:
        if self._files is not None and self._files.error is not None:
            self.kill()
            raise self._files.error from None

    def _receive_bytes(self, deadline: "_Deadline") -> bytes:
        self._fill(LENGTH.size, deadline)
        (length,) = LENGTH.unpack(self._take(LENGTH.size))
        if length > MAX_ANSWER_BYTES:
            raise WireError(f"an answer of {length} bytes; at most {MAX_ANSWER_BYTES} are accepted")
        self._fill(length, deadline)
        return self._take(length)

    def _fill(self, count: int, deadline: "_Deadline") -> None:
        while len(self._buffer) < count:
            while not _is_readable(self._channel, deadline.seconds_left):
                if not deadline.seconds_left:  # or the process had to wait meanwhile
                    raise TimeoutError
            part = self._channel.recv(1 << 16)
            if not part:
                raise EOFError
            self._buffer += part

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _explain_end(self) -> SandboxError:
        status = self._wait()
        if status is None:
            return SandboxError("the process that reads the input is gone without a trace")
        if status >= 0:
            return SandboxError(f"the process that reads the input ended with status {status} and no answer")
        number = -status
        if number == signal.SIGXCPU:
            return InputTimeoutError(
                f"reading the input was stopped after {self._cpu_seconds} s of processor time; the file is "
                "damaged, or larger than can be read here"
            )
        hint = _ENDINGS.get(number, "a decoder failed on this file, which may be damaged or only rare")
        return SandboxError(f"the process that reads the input died of signal {number}: {hint}")

    def _wait(self) -> int | None:
        """Exit code, or the negative number of a signal; None where it cannot be learned."""
        if not _is_readable(self._lifeline, _FAREWELL_SECONDS):
            return None
        try:
            data = self._lifeline.recv(LENGTH.size)
        except OSError:
            return None
        if len(data) < LENGTH.size:
            return None
        return os.waitstatus_to_exitcode(LENGTH.unpack(data)[0])


class _Deadline:
    """When a message must have come."""

    def __init__(self, timeout: float, files: FileServer | None) -> None:
        self._files = files
        self._at = time.monotonic() + timeout - self._waited

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._at + self._waited - time.monotonic())

    @property
    def _waited(self) -> float:
        return 0.0 if self._files is None else self._files.seconds_waited


def _is_readable(end: socket.socket, timeout: float) -> bool:
    poll = select.poll()  # select() itself fails for descriptors above 1023
    poll.register(end, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _rebuild(message: tuple[Any, ...]) -> MediaError:
    """The error as raised in the process: any class of `media.errors`, by name."""
    if len(message) != 3:
        return SandboxError("the process that reads the input answered nonsense: an error without message")
    _, name, text = message
    kind = getattr(errors, name, None) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, MediaError)):
        kind = SandboxError
    return kind(str(text))
