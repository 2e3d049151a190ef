"""dramatiq's Redis broker, with one clock for all machines and without a lock that threads share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import current_millis

from jobs.clock import RedisClock

# As many values as scripts may put on Lua's stack: half of what Redis and Valkey are built with. dramatiq
# asks the server, at the first command of a process, under a lock: while the queue was away, a consumer that
# waits for it for ever held up every thread that wanted to enqueue something and fail.
_MAX_UNPACKED = 4000


class QueueBroker(RedisBroker):
    """A broker whose heartbeats and delays follow the clock of its Redis.

    By the machines' own clocks, the messages of a worker that is behind by `heartbeat_timeout` are taken away
    as those of a dead one, and delays are over too early or too late.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call] # dramatiq types only part of itself
        client: Any = self.client  # typed as the union of what any setting gives
        self._clock = RedisClock(client)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """As in `RedisBroker`."""
        if delay is not None:
            delay += self._skew_ms()  # it is added to this machine's time
        return super().enqueue(message, delay=delay)

    def _dispatch(self, command: str) -> Callable[..., Any]:
        """As in `RedisBroker`, with the time of Redis."""

        def dispatch(queue_name: str, *values: Any) -> Any:
            answer = self.scripts["dispatch"](
                keys=[self.namespace],
                args=[
                    command,
                    self._clock.now_ms(),
                    queue_name,
                    self.broker_id,
                    self.heartbeat_timeout,
                    self.dead_message_ttl,
                    self._should_do_maintenance(command),
                    _MAX_UNPACKED,
                    *values,
                ],
            )
            if command == "fetch" and queue_name in self.delay_queues:
                return [data and self._with_own_eta(data) for data in answer]
            return answer

        return dispatch

    def _with_own_eta(self, data: bytes) -> bytes:
        """A message whose time is compared with this machine's."""
        message = Message.decode(data)
        return message.copy(options={"eta": message.options["eta"] - self._skew_ms()}).encode()

    def _skew_ms(self) -> int:
        """By how much Redis's clock is ahead of this machine's."""
        return self._clock.now_ms() - current_millis()
