"""Threads for slow work are shared fairly."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from service.errors import QuotaError
from service.in_flight import InFlight
from service.lanes import Lane


async def settle() -> None:
    """Lets everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_free_thread_goes_to_whoever_has_the_fewest() -> None:
    async def act() -> list[str]:
        lane, door, order = Lane(2), threading.Semaphore(0), list[str]()

        def work(owner: str) -> None:
            order.append(owner)
            assert door.acquire(timeout=30)

        async def until(num_begun: int) -> None:
            while len(order) < num_begun:
                await asyncio.sleep(0.001)

        greedy = [asyncio.create_task(lane.run("a", work, "a")) for _ in range(10)]
        await until(2)
        modest = [asyncio.create_task(lane.run(owner, work, owner)) for owner in ("b", "c")]
        await settle()
        # One at a time: a thread may begin later than its turn, and another one before it.
        for num_begun in range(3, 13):
            door.release()
            await until(num_begun)
        door.release(2)
        await asyncio.gather(*greedy, *modest)
        return order

    order = asyncio.run(act())
    assert order[:2] == ["a", "a"]
    # The first has one running still; then perhaps none for a moment, and comes before the other once.
    assert order[2] == "b"
    assert "c" in order[3:5]
    assert len(order) == 12


def test_a_wait_that_is_cancelled_just_before_its_turn_holds_up_nobody() -> None:
    async def act() -> None:
        lane = Lane(1)
        first, second = lane._turn("a"), lane._turn("c")
        await first.__aenter__()
        waiting = asyncio.create_task(lane.run("b", time.sleep, 0))
        entering = asyncio.create_task(second.__aenter__())
        await settle()
        # The task of the wait hears of it only after the thread was given away.
        waiting.cancel()
        await first.__aexit__(None, None, None)
        await asyncio.wait_for(entering, 5)
        await second.__aexit__(None, None, None)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await lane.run("d", lambda: 1) == 1
        assert not lane._waiting
        assert not lane._running

    asyncio.run(act())


@pytest.mark.parametrize("is_its_turn", [False, True])
def test_a_cancelled_wait_gives_its_turn_back(is_its_turn: bool) -> None:
    async def act() -> None:
        lane, door = Lane(1), threading.Event()
        running = asyncio.create_task(lane.run("a", door.wait, 30))
        await settle()
        waiting = asyncio.create_task(lane.run("b", door.wait, 30))
        await settle()
        if is_its_turn:
            door.set()
            # Cancelled in the same moment in which the first one ends.
            running.add_done_callback(lambda _: waiting.cancel())
        else:
            waiting.cancel()
            await settle()
            door.set()
        await asyncio.gather(running, waiting, return_exceptions=True)
        assert await asyncio.wait_for(lane.run("c", lambda: "done"), 5) == "done"

    asyncio.run(act())


def test_too_much_under_way_is_refused_until_some_of_it_ends() -> None:
    in_flight = InFlight()
    with in_flight.hold("streams", "a", 1):
        with in_flight.hold("streams", "b", 1), in_flight.hold("requests", "a", 1):
            pass
        with pytest.raises(QuotaError, match="1 streams of your key are under way, 1 are accepted"):
            in_flight.hold("streams", "a", 1).__enter__()
    with in_flight.hold("streams", "a", 1):
        pass
