"""Which message a worker takes next: none while one runs, none of a queue while a higher one has any, and of
those of a priority the one whose key's turn it is (`jobs.turns`).

dramatiq's consumers fetch each for itself, ahead of need. A worker that makes one segment for an hour must
not hold a second message meanwhile, and a customer's urgent job must not wait behind one that was fetched
early. So all consumers of a worker share a gate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from dramatiq import Message, MessageProxy
from dramatiq.errors import ConnectionClosed

from jobs.broker import QueueBroker
from jobs.queue import queue_names
from jobs.records import PRIORITIES, Priority
from jobs.turns import Turns

# How long a new message may wait for an idle worker.
POLL_SECONDS = 0.2
# A busy worker says that it lives, and others' lost messages come back, at least so often.
_HEARTBEAT_SECONDS = 1.0
_CLOSE_SECONDS = 2.0


class Gate:
    """Lets one message pass at a time. Thread-safe."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._finished = threading.Condition()
        self._is_taken = False
        self._closed = threading.Event()

    @property
    def is_idle(self) -> bool:
        """Whether no message has passed that is not finished."""
        return not self._is_taken

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """The only look into the queues while it lasts.

        Yields:
            Whether a message may be taken; then call `take` for it.
        """
        with self._turn:
            yield not self._is_taken and not self._closed.is_set()

    def take(self) -> None:
        """Says that a message has passed."""
        self._is_taken = True

    def leave(self) -> None:
        """Says that the message is finished."""
        with self._finished:
            self._is_taken = False
            self._finished.notify_all()

    def close(self) -> None:
        """Lets nothing pass any more. What is passing just now has passed, or not, when this returns; a Redis
        that does not answer is not waited for."""
        self._closed.set()
        if self._turn.acquire(timeout=_CLOSE_SECONDS):
            self._turn.release()

    def wait(self, seconds: float) -> None:
        """Waits until a message is finished, at most so long."""
        with self._finished:
            self._finished.wait(seconds)


class GatedBroker(QueueBroker):
    """A broker whose consumers take messages through one gate: of the highest priority that has any, in the
    turns of their keys."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.gate = Gate()
        self.turns = Turns(self.client, self.namespace)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:
        """As in `RedisBroker`."""
        for position, priority in enumerate(PRIORITIES):
            names = queue_names(priority)
            if queue_name in names:
                higher = [name for above in PRIORITIES[:position] for name in queue_names(above)]
                sibling = names[1 - names.index(queue_name)]
                return _GatedConsumer(self, queue_name, higher, sibling=sibling, priority=priority)
        return _DelayConsumer(self, queue_name, prefetch)


class _Consumer:
    """What dramatiq's consumer threads need, for one queue.

    A connection that breaks while messages are fetched leaves them on the list of this worker's messages,
    and as long as it lives nobody gives them to another. So a consumer knows what it holds and puts the rest
    back.
    """

    def __init__(self, broker: GatedBroker, queue_name: str) -> None:
        self.broker, self.queue_name = broker, queue_name
        self._client: Any = broker.client  # typed as the union of what any setting gives
        self._acks_key = f"{broker.namespace}:__acks__.{broker.broker_id}.{queue_name}"
        self._held: set[str] = set()

    def __iter__(self) -> _Consumer:
        return self

    def __next__(self) -> MessageProxy | None:
        try:
            return self._next()
        except redis.ConnectionError as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call] # half typed

    def _next(self) -> MessageProxy | None:
        raise NotImplementedError

    def ack(self, message: MessageProxy) -> None:
        """Says that a message is done with."""
        self._finish("ack", message)

    def nack(self, message: MessageProxy) -> None:
        """Moves a message to the dead letters."""
        self._finish("nack", message)

    def requeue(self, messages: Any) -> None:
        """Gives messages back."""
        ids = [message.options["redis_message_id"] for message in messages]
        if ids:
            self.broker.do_requeue(self.queue_name, *ids)
            self._held.difference_update(ids)

    def close(self) -> None:
        """Nothing is to be closed: the client is the broker's."""

    def _finish(self, command: str, message: MessageProxy) -> None:
        message_id = message.options["redis_message_id"]
        try:
            getattr(self.broker, f"do_{command}")(self.queue_name, message_id)
        except redis.ConnectionError as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call] # half typed
        self._held.discard(message_id)

    def _fetch(self, count: int) -> list[MessageProxy]:
        fetched = [Message.decode(data) for data in self.broker.do_fetch(self.queue_name, count) if data]
        self._held.update(message.options["redis_message_id"] for message in fetched)
        return [MessageProxy(message) for message in fetched]

    def _give_back_lost(self) -> None:
        listed = {item.decode() for item in self._client.smembers(self._acks_key)}
        lost = listed - self._held
        if lost:
            self.broker.do_requeue(self.queue_name, *lost)


class _GatedConsumer(_Consumer):
    """Takes from its queue when nothing runs here, all higher queues are empty, and it is its turn."""

    def __init__(
        self, broker: GatedBroker, queue_name: str, higher: Sequence[str], *, sibling: str, priority: Priority
    ) -> None:
        super().__init__(broker, queue_name)
        self._higher = [f"{broker.namespace}:{name}" for name in higher]
        self._sibling, self._priority = sibling, priority
        self._last_command = 0.0

    def _next(self) -> MessageProxy | None:
        gate = self.broker.gate
        with gate.turn() as may_take:
            if may_take:
                self._give_back_lost()
                if self._is_next():
                    self._last_command = time.monotonic()
                    for message in self._fetch(1):
                        gate.take()
                        return message
        if time.monotonic() - self._last_command > _HEARTBEAT_SECONDS:
            # Any command counts as a sign of life, and brings back what dead workers held.
            self._last_command = time.monotonic()
            self.broker.do_qsize(self.queue_name)
        gate.wait(POLL_SECONDS)
        return None

    def _is_next(self) -> bool:
        if any(self._client.llen(key) for key in self._higher):
            return False
        return self.broker.turns.choose(self.queue_name, self._sibling, self._priority)

    def requeue(self, messages: Any) -> None:
        """Gives messages back."""
        messages = list(messages)
        super().requeue(messages)
        if messages:
            self.broker.gate.leave()

    def _finish(self, command: str, message: MessageProxy) -> None:
        super()._finish(command, message)
        self.broker.gate.leave()


class _DelayConsumer(_Consumer):
    """Holds messages until their time has come; dramatiq's thread then puts them into their queue."""

    def __init__(self, broker: GatedBroker, queue_name: str, prefetch: int) -> None:
        super().__init__(broker, queue_name)
        self._prefetch = prefetch
        self._waiting: list[MessageProxy] = []

    def _next(self) -> MessageProxy | None:
        if not self._waiting:
            self._give_back_lost()
            self._waiting = self._fetch(max(0, self._prefetch - len(self._held)))
        if self._waiting:
            return self._waiting.pop(0)
        time.sleep(POLL_SECONDS)
        return None

    def close(self) -> None:
        """Gives back what the thread has not asked for yet."""
        self.requeue(self._waiting)
        self._waiting = []
