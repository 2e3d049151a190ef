"""Wakes up requests that wait for a job's next event: one Redis subscription per process, to those jobs only
that somebody follows there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import redis
import redis.asyncio
import structlog

from jobs import keys
from jobs.connections import async_client

_log = structlog.get_logger(__name__)
_RECONNECT_SECONDS = 1
# Whoever waits looks now and then without being woken, too.
_CONFIRM_SECONDS = 1


@dataclass
class _Watch:
    """Those who follow a job, and whether Redis has confirmed that we hear of it."""

    waiting: set[asyncio.Event] = field(default_factory=set)
    is_heard: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        self.is_heard.set()
        for event in self.waiting:
            event.set()


class EventHub:
    """Listens to the channels of jobs that are followed in this process.

    Args:
        redis_url: Of the store.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._watches: dict[str, _Watch] = {}
        self._pubsub: redis.asyncio.client.PubSub | None = None
        self._heard: set[str] = set()
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Listens until it is cancelled; connects again when Redis was away, and wakes everybody then."""
        while True:
            client = async_client(self._redis_url)
            try:
                async with client.pubsub() as pubsub:
                    await pubsub.subscribe(keys.ALL_EVENTS())
                    async with self._sending:
                        # Of whoever came while there was no connection.
                        self._pubsub, self._heard = pubsub, set(self._watches)
                        if self._heard:
                            await pubsub.subscribe(*self._heard)
                    await self._listen(pubsub)
            except (redis.RedisError, OSError) as error:
                _log.warning("events.disconnected", error=str(error))
                await asyncio.sleep(_RECONNECT_SECONDS)
            finally:
                self._pubsub = None
                await client.aclose()

    @asynccontextmanager
    async def subscription(self, job_id: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever the job has news, from now on. Clear it before looking."""
        channel, event = keys.EVENTS(job_id), asyncio.Event()
        watch = self._watches.setdefault(channel, _Watch())
        watch.waiting.add(event)
        try:
            await self._hear(channel, watch)
            yield event
        finally:
            watch.waiting.discard(event)
            if not watch.waiting:
                self._watches.pop(channel, None)

    async def _hear(self, channel: str, watch: _Watch) -> None:
        async with self._sending:
            if self._pubsub is not None and channel not in self._heard:
                self._heard.add(channel)
                with suppress(redis.RedisError, OSError):  # `run` finds out too, and connects again
                    await self._pubsub.subscribe(channel)
        with suppress(TimeoutError):
            await asyncio.wait_for(watch.is_heard.wait(), _CONFIRM_SECONDS)

    async def _listen(self, pubsub: redis.asyncio.client.PubSub) -> None:
        while True:
            message = await pubsub.get_message(timeout=1)
            if message is not None:
                watch = self._watches.get(message["channel"].decode())
                # Confirmations wake, too: there may have been news before them.
                if watch is not None and message["type"] in ("subscribe", "message"):
                    watch.wake()
            elif self._heard - self._watches.keys():
                await self._forget(pubsub)

    async def _forget(self, pubsub: redis.asyncio.client.PubSub) -> None:
        """Hears no more of jobs that nobody follows."""
        async with self._sending:
            if unwatched := self._heard - self._watches.keys():
                self._heard -= unwatched
                await pubsub.unsubscribe(*unwatched)
