"""Counting requests: no more than allowed, by all processes together, and Redis is seldom asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import pytest

from jobs.connections import async_client
from service.rate_limit import Allowance, RateLimitedError, RateLimiter

T = TypeVar("T")


def with_redis(redis_url: str, act: Callable[[Any], Awaitable[T]]) -> T:
    """Runs something with a client on an event loop of its own."""

    async def run() -> T:
        client = async_client(redis_url)
        try:
            return await act(client)
        finally:
            await client.aclose()

    return asyncio.run(run())


async def num_commands(client: Any) -> int:
    """That clients have sent since the last look; a look itself does not count."""
    found = await client.info("commandstats")
    await client.config_resetstat()
    calls = {name: values["calls"] for name, values in found.items()}
    return sum(calls.get(f"cmdstat_{name}", 0) for name in ("evalsha", "eval", "script|load"))


def test_requests_are_counted_a_seconds_worth_at_once_and_no_more_are_let_through(redis_url: str) -> None:
    async def act(client: Any) -> tuple[int, int]:
        limiters = [RateLimiter(client) for _ in range(2)]
        await limiters[0].check("another", 300)
        await num_commands(client)
        allowed = 0
        for number in range(400):
            with suppress(RateLimitedError):
                await limiters[number % 2].check("owner", 300)
                allowed += 1
        return allowed, await num_commands(client)

    allowed, asked = with_redis(redis_url, act)
    assert 300 <= allowed <= 301  # one more in the next half second
    # 60 blocks of five, and once for each that is refused.
    assert asked <= 60 + 100 + 1


def test_what_is_left_is_told_without_asking_for_it(redis_url: str) -> None:
    async def act(client: Any) -> tuple[list[Allowance], int]:
        limiter = RateLimiter(client)
        await limiter.check("another", 600)
        await num_commands(client)
        told = [await limiter.check("owner", 600) for _ in range(10)]
        return told, await num_commands(client)

    told, asked = with_redis(redis_url, act)
    assert [allowance.remaining for allowance in told] == list(range(599, 589, -1))
    assert {allowance.limit for allowance in told} == {600}
    assert asked == 1


def test_what_another_process_has_taken_is_seen_when_redis_is_asked_next(redis_url: str) -> None:
    async def act(client: Any) -> list[int]:
        one, two = RateLimiter(client), RateLimiter(client)
        return [(await limiter.check("owner", 120)).remaining for limiter in (one, two, one, two, one)]

    # Blocks of two: what the other has taken shows with the next block.
    assert with_redis(redis_url, act) == [119, 117, 118, 116, 115]


def test_requests_at_once_share_a_block(redis_url: str) -> None:
    async def act(client: Any) -> int:
        limiter = RateLimiter(client)
        await limiter.check("another", 600)  # loads the script
        await num_commands(client)
        await asyncio.gather(*(limiter.check("owner", 600) for _ in range(10)))
        return await num_commands(client)

    assert with_redis(redis_url, act) == 1


def test_the_minute_slides_and_who_comes_when_they_were_told_to_is_let_through(redis_url: str) -> None:
    async def act(client: Any) -> None:
        limiter = RateLimiter(client)
        seconds, _ = await client.time()
        if seconds % 60 > 56:  # the next minute would begin meanwhile
            await asyncio.sleep(61 - seconds % 60)
            seconds, _ = await client.time()
        # One of the minute before is over every tenth of a second.
        kept = {"minute": seconds // 60, "count": 0, "before": 600}
        await client.hset("dv:rate:owner", mapping=kept)

        async def ask_for_ever() -> None:
            while True:
                await limiter.check("owner", 600)

        with pytest.raises(RateLimitedError) as refused:
            await ask_for_ever()
        headers = refused.value.headers
        assert headers["Retry-After"] == headers["RateLimit-Reset"] == "1"
        await asyncio.sleep(0.2)
        assert (await limiter.check("owner", 600)).remaining < 60

    with_redis(redis_url, act)
