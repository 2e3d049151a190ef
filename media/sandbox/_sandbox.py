"""Starting sandboxed processes, through a fork server that is started when the first is asked for."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar, cast

from media.errors import SandboxError
from media.sandbox._cancellation import Cancellation
from media.sandbox._limits import SandboxLimits
from media.sandbox._messages import Request
from media.sandbox._privileges import lent_folders
from media.sandbox._process import SandboxedProcess
from media.sandbox._protections import PROTECTIONS
from media.sandbox._running_server import START_SECONDS, RunningForkServer
from media.sandbox._served_files import Content

P = ParamSpec("P")
T = TypeVar("T")

_logger = logging.getLogger(__name__)


PROBE_MODULES = ("media.probing",)
"""What a child needs to probe; no torch."""

READ_MODULES = (
    *("media.probing", "media.reader", "media.join"),
    *("media.sandbox._frames", "media.sandbox._pictures"),
)
"""What a child needs to probe, decode and join, and for pictures."""


class Sandbox:
    """Runs functions on untrusted files in processes of their own. Thread-safe; close it when done.

    A process may use limited memory, time and files, has no network, starts no program, and sees of the
    environment and the file system only what it needs. What it answers cannot do anything here. It dies with
    this process, however this one ends.

    Args:
        preload: Modules that the functions need. They are imported once, when the first process is started,
            outside the limits.
    """

    def __init__(self, *, preload: Sequence[str] = PROBE_MODULES) -> None:
        self._preload = tuple(preload)
        self._lock = threading.Lock()
        self._server: RunningForkServer | None = None
        self._missing: tuple[str, ...] | None = None
        self._mounted: dict[Path, Content] = {}

    @contextmanager
    def mounted(self, path: Path, content: Content) -> Iterator[None]:
        """While the block runs, processes that may read a path find there what lies elsewhere.

        Args:
            path: Absolute; nothing need be there.
            content: Read as far as the process reads. What it raises, the call that started the process
                raises too.
        """
        self._mounted[path] = content
        try:
            yield
        finally:
            del self._mounted[path]

    def call(
        self,
        function: Callable[..., T],
        *args: object,
        timeout: float,
        limits: SandboxLimits | None = None,
        readable: Iterable[str | Path] = (),
        writable: Iterable[str | Path] = (),
        cancellation: Cancellation | None = None,
    ) -> T:
        """Call a function in a process of its own.

        Args:
            function: Of a module, or a `functools.partial` of one. Its result is made of None, bool, int,
                float, str, bytes, tuple, list, dict, Fraction, Path, and the dataclasses of `media.info` and
                `media.join`.
            args: For the function; anything that can be pickled.
            timeout: Seconds by the clock, from when the process has started.
            limits: Resources; None: the default ones.
            readable: Files and folders it may read.
            writable: Folders it may write in; `limits.file_bytes` says how much. Where this process is root,
                they belong to another user meanwhile.
            cancellation: What may end the call.

        Raises:
            MediaError: As raised by the function.
            InputTimeoutError: The time is over, by the clock or the processor's.
            InputMemoryError: It needs more memory than allowed.
            SandboxError: The process crashed, or the function raised something else.
            Exception: What mounted content raised.
        """
        folders = [Path(path).absolute() for path in writable]
        with lent_folders(folders):
            process = self.start(
                function, *args, limits=limits, readable=readable, writable=folders, takes_port=False
            )
            with contextlib.closing(process), (cancellation or Cancellation()).covering(process):
                kind, *values = process.receive(timeout=timeout)
        if kind != "result" or len(values) != 1:
            raise SandboxError(f"the process that reads the input answered nonsense: {str(kind)[:40]!r}")
        return cast(T, values[0])

    def start(
        self,
        function: Callable[..., Any],
        *args: object,
        limits: SandboxLimits | None = None,
        readable: Iterable[str | Path] = (),
        writable: Iterable[str | Path] = (),
        files: Sequence[int] = (),
        takes_port: bool = True,
    ) -> SandboxedProcess:
        """Start a function that answers more than once, through the `Port` it gets as first argument.

        Args:
            function: As for `call`.
            args: As for `call`.
            limits: As for `call`; processor time counts from the last sign of progress.
            readable: As for `call`.
            writable: As for `call`.
            files: Descriptors to hand over.
            takes_port: Whether the function gets the port.

        Returns:
            The process. Close it.

        Raises:
            SandboxError: The process does not start.
        """
        limits = limits or SandboxLimits()
        paths = [Path(path).absolute() for path in readable]
        served = {path: self._mounted[path] for path in paths if path in self._mounted}
        request = Request(
            function=function,
            arguments=args,
            takes_port=takes_port,
            limits=limits,
            readable=tuple(path for path in paths if path not in served),
            writable=tuple(Path(path).absolute() for path in writable),
            served=tuple((path, content.size_bytes) for path, content in served.items()),
            served_channel=len(files),
        ).to_message()
        process = self._fork(files, list(served.values()), cpu_seconds=limits.cpu_seconds)
        try:
            process.send(request, timeout=START_SECONDS)
            kind, *values = process.receive(timeout=START_SECONDS)
            if kind != "ready":
                raise SandboxError("the process that reads the input answered nonsense before it began")
            self._note_missing(values)
        except BaseException:
            process.close()
            raise
        return process

    def start_ahead(self) -> None:
        """Start the fork server now, in the background: importing torch takes it a second or more."""

        def start() -> None:
            with contextlib.suppress(SandboxError):  # the first call tries again, and says what is wrong
                self._running_server()

        threading.Thread(target=start, name="dovetail-sandbox", daemon=True).start()

    def missing(self) -> tuple[str, ...]:
        """Protections that its processes lack here; one is started to find out, if there was none yet.

        Raises:
            SandboxError: No process starts.
        """
        if self._missing is None:
            self.call(os.getpid, timeout=START_SECONDS)
        assert self._missing is not None
        return self._missing

    def close(self) -> None:
        """End the fork server and all processes. Harmless a second time; a later call starts a new one."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _fork(self, files: Sequence[int], served: Sequence[Content], *, cpu_seconds: int) -> SandboxedProcess:
        for _ in range(2):  # a server that has died is noticed when it is used
            server = self._running_server()
            with contextlib.ExitStack() as stack:
                channel, far_channel = socket.socketpair()
                lifeline, far_lifeline = socket.socketpair()
                far = [stack.enter_context(end) for end in (far_channel, far_lifeline)]
                process = SandboxedProcess(channel, lifeline, server=server, cpu_seconds=cpu_seconds)
                handed = [end.fileno() for end in far] + list(files)
                if served:
                    near, far_served = socket.socketpair()
                    handed.append(stack.enter_context(far_served).fileno())
                    process.serve(near, served)
                if server.request(handed):
                    return process
            process.close()
            self._discard(server)
        raise SandboxError("the fork server of the sandbox dies as soon as it is started")

    def _running_server(self) -> RunningForkServer:
        with self._lock:
            if self._server is not None and not self._server.is_alive():
                self._server.close()
                self._server = None
            if self._server is None:
                self._server = RunningForkServer(self._preload)
            return self._server

    def _discard(self, server: RunningForkServer) -> None:
        with self._lock:
            if self._server is server:
                self._server = None
        server.close()

    def _note_missing(self, values: list[Any]) -> None:
        names = values[0] if values and isinstance(values[0], list) else []
        missing = tuple(name for name in PROTECTIONS if name in names)
        if missing and self._missing is None:
            _logger.warning("files are read without %s, which this system lacks", " and ".join(missing))
        self._missing = missing


@cache
def shared_sandbox(purpose: Literal["probe", "read"]) -> Sandbox:
    """The sandbox that all callers in this process share.

    Args:
        purpose: "probe" needs no torch and so takes 60 MB; "read" is for all that is done to files.
    """
    return Sandbox(preload=PROBE_MODULES if purpose == "probe" else READ_MODULES)
