"""Wakes up requests that wait for a job's next event: one Redis subscription per process, however many
wait."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import redis
import redis.asyncio
import structlog

from jobs.connections import async_client
from jobs.events import CHANNEL

_log = structlog.get_logger(__name__)
_RECONNECT_SECONDS = 1


class EventHub:
    """Listens to the channel on which ids of jobs with new events are published.

    Args:
        redis_url: Of the store.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    async def run(self) -> None:
        """Listens until it is cancelled; connects again when Redis was away, and wakes everybody then."""
        while True:
            client = async_client(self._redis_url)
            try:
                async with client.pubsub() as pubsub:
                    await pubsub.subscribe(CHANNEL)
                    self._wake_all()
                    await self._listen(pubsub)
            except (redis.RedisError, OSError) as error:
                _log.warning("events.disconnected", error=str(error))
                await asyncio.sleep(_RECONNECT_SECONDS)
            finally:
                await client.aclose()

    @contextmanager
    def subscription(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job has news. Clear it before looking."""
        event = asyncio.Event()
        self._waiting[job_id].add(event)
        try:
            yield event
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    async def _listen(self, pubsub: redis.asyncio.client.PubSub) -> None:
        while True:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
            if message is not None:
                for event in self._waiting.get(message["data"].decode(), ()):
                    event.set()

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()
