"""A receiver that hangs or is away takes no senders from others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from service.webhooks import breaker
from service.webhooks.breaker import NUM_FAILURES, CircuitBreaker, receiver_of
from service.webhooks.delivery import MOST_OF_RECEIVER, NUM_SENDERS
from tests.service.conftest import Api, wait_until
from tests.service.origin import Answer, Asked, running_origin
from tests.service.test_webhooks import TTL, submit


def cancelled(api: Api, clip: Path, url: str, count: int = 1) -> None:
    """Events for a receiver."""
    for _ in range(count):
        api.context.store.cancel(submit(api.http, clip, url, "job.cancelled"), ttl=TTL)


def test_a_receiver_that_hangs_does_not_hold_the_senders_of_others(api: Api, clip: Path) -> None:
    release = threading.Event()

    def hang(_: Asked) -> Answer:
        release.wait(60)
        return Answer()

    with running_origin(hang) as slow, running_origin(lambda _: Answer()) as quick:
        try:
            cancelled(api, clip, slow.url, NUM_SENDERS + 2)
            wait_until(lambda: len(slow.asked) == MOST_OF_RECEIVER)
            cancelled(api, clip, quick.url)
            wait_until(lambda: quick.asked, seconds=10)
            assert len(slow.asked) == MOST_OF_RECEIVER
        finally:
            release.set()


def test_a_broken_receiver_is_left_alone_and_gets_everything_when_it_is_mended(
    api: Api, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE", timedelta(seconds=2))
    count, is_broken = NUM_FAILURES + 3, True
    client = api.context.client

    def open_breakers() -> list[bytes]:
        return [
            key for key in client.scan_iter("dv:webhooks:breaker:*", _type="hash")
            if client.exists(key + b":pause")
        ]  # fmt: skip

    with running_origin(lambda _: Answer(503 if is_broken else 200)) as receiver:
        cancelled(api, clip, receiver.url, count)
        wait_until(open_breakers)
        # What was under way when it opened.
        assert len(receiver.asked) < NUM_FAILURES + MOST_OF_RECEIVER
        is_broken = False
        wait_until(
            lambda: (
                sum(
                    client.hget(key, "outcome") == b"delivered"
                    for key in client.scan_iter("dv:webhook:msg_*")
                )
                == count
            )
        )
        assert not open_breakers()


Act = Callable[[CircuitBreaker], Coroutine[Any, Any, None]]


def with_breaker(url: str, act: Act) -> None:
    async def run() -> None:
        client = redis.asyncio.Redis.from_url(url)
        try:
            await act(CircuitBreaker(client))
        finally:
            await client.aclose()

    asyncio.run(run())


def test_after_failures_in_a_row_one_trial_at_a_time_decides(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE", timedelta(seconds=0.3))
    mine, others = receiver_of("key_1", "https://a.example/x"), receiver_of("key_2", "https://a.example/x")

    async def act(found: CircuitBreaker) -> None:
        for _ in range(NUM_FAILURES - 1):
            await found.failed(mine)
        assert await found.pause_seconds(mine) == 0
        await found.succeeded(mine)
        for _ in range(NUM_FAILURES):
            assert await found.pause_seconds(mine) == 0
            await found.failed(mine)
        pause = await found.pause_seconds(mine)
        assert 0 < pause <= 0.3
        assert await found.pause_seconds(others) == 0
        await asyncio.sleep(pause + 0.01)
        assert await found.pause_seconds(mine) == 0  # the trial
        assert await found.pause_seconds(mine) > 0  # somebody else, meanwhile
        await found.failed(mine)
        assert 0.3 < await found.pause_seconds(mine) <= 0.6
        await asyncio.sleep(0.61)
        assert await found.pause_seconds(mine) == 0
        await found.succeeded(mine)
        assert await found.pause_seconds(mine) == await found.pause_seconds(mine) == 0

    with_breaker(redis_url, act)


def test_pauses_grow_up_to_a_limit(redis_url: str) -> None:
    async def act(found: CircuitBreaker) -> None:
        for _ in range(200):
            await found.failed("receiver")
        assert await found.pause_seconds("receiver") <= breaker.LONGEST_PAUSE.total_seconds()

    with_breaker(redis_url, act)


def test_a_receiver_is_a_host_of_one_owner() -> None:
    first = receiver_of("a", "https://Hooks.example/one")
    assert first == receiver_of("a", "https://hooks.example/two?x")
    assert len({first, receiver_of("b", "https://hooks.example/one"),
                receiver_of("a", "https://hooks.example:444/one")}) == 3  # fmt: skip
