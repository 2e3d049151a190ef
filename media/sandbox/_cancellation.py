"""Ending sandboxed calls from another thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from media.sandbox._process import SandboxedProcess


class Cancellation:
    """Ends the processes of calls that were given it, now and later. Thread-safe.

    A call that is ended raises `SandboxError`: whoever cancelled it knows why.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[SandboxedProcess] = set()
        self._is_cancelled = False

    def cancel(self) -> None:
        """End them. Harmless a second time."""
        with self._lock:
            self._is_cancelled = True
            for process in self._processes:
                process.kill()

    @contextmanager
    def covering(self, process: SandboxedProcess) -> Iterator[None]:
        """Cover a process while the block runs."""
        with self._lock:
            self._processes.add(process)
            if self._is_cancelled:
                process.kill()
        try:
            yield
        finally:
            with self._lock:
                self._processes.discard(process)
