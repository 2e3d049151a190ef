"""How a worker is told to stop: first politely, then at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from workers.errors import UpscaleError


class DrainedError(UpscaleError):
    """Raised when an attempt stops because its worker does; the task goes back to the queue, uncounted."""

    code = "drained"


class StopSignal:
    """What signal handlers set and tasks look at."""

    def __init__(self) -> None:
        self._draining, self._over = threading.Event(), threading.Event()
        self._ends_at = float("inf")
        self._woken: set[threading.Event] = set()

    @property
    def is_draining(self) -> bool:
        """Whether the worker takes no more tasks, and planning stops where it can."""
        return self._draining.is_set()

    @property
    def is_over(self) -> bool:
        """Whether the time for finishing is over."""
        return self._over.is_set()

    @property
    def seconds_left(self) -> float:
        """Until the time for finishing is over; infinite as long as nobody has said when."""
        return self._ends_at - time.monotonic()

    def drain(self, *, within_seconds: float | None = None) -> None:
        """Asks for the polite end.

        Args:
            within_seconds: How long the running task may take; None leaves that open.
        """
        if within_seconds is not None:
            self._ends_at = time.monotonic() + within_seconds
        self._draining.set()
        self._wake()

    def stop_now(self) -> None:
        """Asks for the end at the next frame."""
        self._draining.set()
        self._over.set()
        self._wake()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for the polite end; whether it was asked for."""
        return self._draining.wait(seconds)

    @contextmanager
    def waking(self, event: threading.Event) -> Iterator[None]:
        """Sets an event whenever more is asked for while the block runs, and if something was before."""
        self._woken.add(event)
        if self.is_draining:
            event.set()
        try:
            yield
        finally:
            self._woken.discard(event)

    def _wake(self) -> None:
        for event in list(self._woken):
            event.set()
