"""Threads that work on one stream at the same time, joined by short queues.

An error in any thread stops all of them and is raised where the threads were started. Leaving the `with`
block in whatever way leaves no thread behind.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")


class ChannelAborted(Exception):  # noqa: N818 - tells a thread to go home, it is no error
    """Raised in threads that use a channel after another thread has failed or the run was stopped."""


class Channel(Generic[T]):
    """A queue of bounded length from one thread to another.

    `queue.Queue` cannot be closed before Python 3.13, and a thread that waits on it would wait for ever when
    its partner fails.

    Args:
        max_items: Items that may wait; a producer that is further ahead waits.
    """

    def __init__(self, max_items: int) -> None:
        self.max_items = max_items
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._is_finished = False
        self._is_aborted = False

    def put(self, item: T) -> None:
        """Adds an item, when there is room.

        Raises:
            ChannelAborted: If the channel was aborted.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self.max_items or self._is_aborted)
            if self._is_aborted:
                raise ChannelAborted
            self._items.append(item)
            self._changed.notify_all()

    def finish(self) -> None:
        """Says that no more items come; the consumer's loop ends after those that wait."""
        with self._changed:
            self._is_finished = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Wakes both sides with ChannelAborted and drops what waits."""
        with self._changed:
            self._is_aborted = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._is_finished or self._is_aborted)
                if self._is_aborted:
                    raise ChannelAborted
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


class StageThreads:
    """Runs functions in threads of their own for the length of a `with` block.

    When the block ends normally the threads are waited for. When it ends by an exception, or a thread fails,
    all channels are aborted first. The first error of a thread is raised; an exception of the block that is
    not merely the echo of it (ChannelAborted) comes before it.

    Args:
        channels: All channels between the stages.
    """

    def __init__(self, *channels: Channel[Any]) -> None:
        self._channels = channels
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Starts a stage."""
        thread = threading.Thread(target=self._run, args=(work,), name=f"dovetail-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def abort(self) -> None:
        """Stops all stages at their next use of a channel."""
        for channel in self._channels:
            channel.abort()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except ChannelAborted:
            pass
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_value is not None:
            self.abort()
        try:
            for thread in self._threads:
                thread.join()
        except BaseException:
            # Ctrl-C while the last frames are written.
            self.abort()
            for thread in self._threads:
                thread.join()
            raise
        if self._error is not None and (exc_value is None or isinstance(exc_value, ChannelAborted)):
            raise self._error
