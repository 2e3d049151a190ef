"""Who follows a job hears of it, whenever they come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis
from redis.asyncio.client import PubSub

from jobs import keys
from service.event_hub import EventHub
from tests.service.conftest import wait_until


def test_who_comes_while_it_connects_hears_of_its_job(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        hub, subscribe = EventHub(redis_url), PubSub.subscribe
        is_connecting, may_connect = asyncio.Event(), asyncio.Event()

        async def subscribe_late(pubsub: PubSub, *channels: str, **handlers: Any) -> None:
            is_connecting.set()
            await may_connect.wait()
            await subscribe(pubsub, *channels, **handlers)

        monkeypatch.setattr(PubSub, "subscribe", subscribe_late)
        listening = asyncio.create_task(hub.run())
        await is_connecting.wait()
        async with hub.subscription("job_1"):
            may_connect.set()
            with redis.Redis.from_url(redis_url) as client:
                channel = keys.EVENTS("job_1").encode()
                await asyncio.to_thread(wait_until, lambda: channel in client.pubsub_channels(), seconds=5)
        listening.cancel()

    asyncio.run(run())
