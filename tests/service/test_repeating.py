"""One of all API processes leads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from jobs.connections import impatient_client
from service.repeating import leading

_ROUND = 0.01


def counting(counts: dict[str, int], name: str) -> Callable[[], Awaitable[None]]:
    async def act() -> None:
        counts[name] += 1

    return act


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(_ROUND)


def test_one_acts_and_hands_over_when_it_is_stopped(redis_url: str) -> None:
    async def run() -> tuple[int, bool]:
        counts = {"first": 0, "second": 0}
        client = impatient_client(redis_url)
        async with leading(client, "round", counting(counts, "first"), seconds=_ROUND):
            await until(lambda: counts["first"] > 0)
            async with leading(client, "round", counting(counts, "second"), seconds=_ROUND):
                await until(lambda: counts["first"] > 5)
                meanwhile = counts["second"]
        async with leading(client, "round", counting(counts, "second"), seconds=_ROUND):
            await until(lambda: counts["second"] > 0)
        client.close()
        return meanwhile, counts["second"] > 0

    assert asyncio.run(run()) == (0, True)


def test_leader_that_lost_its_lock_stops_acting(redis_url: str) -> None:
    async def run() -> None:
        counts = {"first": 0}
        client = impatient_client(redis_url)
        act = counting(counts, "first")
        async with leading(client, "round", act, seconds=_ROUND, held_seconds=0.3):
            await until(lambda: counts["first"] > 0)
            client.set("dv:leader:round", "another process")
            await asyncio.sleep(0.2)  # it looks again after a third of the time for which it has the lock
            stopped_at = counts["first"]
            await asyncio.sleep(0.2)
            assert counts["first"] == stopped_at
        assert client.get("dv:leader:round") == b"another process"
        client.close()

    asyncio.run(run())
