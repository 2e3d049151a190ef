"""Takes one message at a time, holds it while it is worked on, and ends it or gives it back."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from typing import Any

import redis
import structlog

from jobs.errors import StoreUnavailableError
from jobs.messages import MAX_WAIT_SECONDS, Delivery, MessageQueue, Wanted, bell_key

_log: Any = structlog.get_logger(__name__)

_PAUSE_SECONDS = 1.0
_CLOSE_SECONDS = 2.0


class Consumer:
    """Works off messages in a thread of its own, one at a time. Thread-safe.

    Args:
        messages: The queues.
        wanted: What to take.
        work: Does what a message asks for. Where it raises, the message is delivered again, later and later.
        hold: After so long without a sign of life from here, others get the message.
        keeping: Gives that sign in a `with` block.
    """

    def __init__(
        self,
        messages: MessageQueue,
        wanted: Wanted,
        work: Callable[[Delivery], None],
        *,
        hold: timedelta,
        keeping: Callable[[Delivery], AbstractContextManager[None]],
    ) -> None:
        self._messages, self._wanted, self._work = messages, wanted, work
        self._hold, self._keeping = hold, keeping
        self._own_bell = bell_key(f"of:{secrets.token_hex(8)}")
        self._taking = threading.Lock()
        self._held: Delivery | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dovetail-consumer", daemon=True)

    @property
    def is_idle(self) -> bool:
        """Whether no message is being worked on."""
        return self._held is None

    def start(self) -> None:
        """Begins to take messages."""
        self._thread.start()

    def close(self) -> None:
        """Takes nothing any more. What is being taken just now is taken, or not, when this returns; a Redis
        that does not answer is not waited for."""
        self._closed.set()
        if self._taking.acquire(timeout=_CLOSE_SECONDS):
            self._taking.release()

    def stop(self, *, timeout: float) -> None:
        """Closes, and waits for what is being worked on, for so many seconds at most."""
        self.close()
        # In a thread: with Redis away it would never end, and there is nothing left to lose.
        waking = threading.Thread(target=self._wake, name="dovetail-waking", daemon=True)
        waking.start()
        self._thread.join(timeout)
        waking.join(_CLOSE_SECONDS)

    def _wake(self) -> None:
        with suppress(StoreUnavailableError, redis.RedisError):
            self._messages.ring(self._own_bell)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._step()
            except Exception:
                # Whatever it is: nobody would miss this thread until jobs stand still.
                _log.warning("queue.failed", exc_info=True)
                self._closed.wait(_PAUSE_SECONDS)

    def _step(self) -> None:
        with self._taking:
            if self._closed.is_set():
                return
            found = self._messages.take(self._wanted, hold=self._hold)
            if isinstance(found, Delivery):
                self._held = found
        if isinstance(found, Delivery):
            try:
                with self._keeping(found):
                    self._handle(found)
            finally:
                self._held = None
        else:
            self._messages.wait([*self._wanted.bells, self._own_bell], min(found, MAX_WAIT_SECONDS))

    def _handle(self, delivery: Delivery) -> None:
        try:
            self._work(delivery)
        except Exception:
            _log.warning("message.failed", message=delivery.id, exc_info=True)
            self._messages.put_back(delivery, delay=delivery.failure_delay)
        else:
            self._messages.finish(delivery)
