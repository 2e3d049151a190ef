"""Who holds a key, and for how long; and what the next request with it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta

import pytest
import redis

from jobs.clock import milliseconds
from jobs.connections import async_client
from service.errors import ConflictError, InvalidRequestError, UnavailableError
from service.idempotency import IdempotentCall, idempotent

HELD = timedelta(seconds=1)


@asynccontextmanager
async def request(
    redis_url: str, *, fingerprint: str = "f", held: timedelta = HELD
) -> AsyncIterator[IdempotentCall]:
    client = async_client(redis_url)
    try:
        async with idempotent(
            client, owner="owner", key="order-1", fingerprint=fingerprint, prefix="job", held=held
        ) as call:
            yield call
    finally:
        await client.aclose()


async def act(redis_url: str, *, error: Exception | None = None) -> IdempotentCall:
    async with request(redis_url) as call:
        if error is not None:
            raise error
        return call


def test_a_key_is_held_for_as_long_as_its_request_takes(redis_url: str) -> None:
    async def run() -> None:
        async with request(redis_url) as call:
            await asyncio.sleep(2.5)
            with pytest.raises(ConflictError):
                await act(redis_url)
        again = await act(redis_url)
        assert (again.id, again.is_done) == (call.id, True)

    asyncio.run(run())


def test_after_its_process_has_died_a_key_is_free_and_names_what_may_exist(redis_url: str) -> None:
    # A loop that nobody runs any more is a process that has died.
    with closing(asyncio.new_event_loop()) as dead:
        context = request(redis_url)
        first = dead.run_until_complete(context.__aenter__())
        with pytest.raises(ConflictError):
            asyncio.run(act(redis_url))
        time.sleep(1.5)
        again = asyncio.run(act(redis_url))
        assert (again.id, again.is_done, again.may_exist) == (first.id, False, True)
        dead.run_until_complete(context.__aexit__(None, None, None))


def test_a_request_that_was_thought_dead_changes_nothing_for_its_successor(redis_url: str) -> None:
    with closing(asyncio.new_event_loop()) as slow:
        context = request(redis_url)
        first = slow.run_until_complete(context.__aenter__())
        time.sleep(1.2)

        async def run() -> None:
            async with request(redis_url, held=timedelta(minutes=1)):
                refusal = InvalidRequestError("too late")
                ending = context.__aexit__(type(refusal), refusal, None)
                assert not await asyncio.to_thread(slow.run_until_complete, ending)
                with pytest.raises(ConflictError):
                    await act(redis_url)

        asyncio.run(run())
        assert asyncio.run(act(redis_url)).id == first.id


def test_a_refused_request_leaves_its_key_to_another_and_a_broken_one_does_not(redis_url: str) -> None:
    with pytest.raises(InvalidRequestError):
        asyncio.run(act(redis_url, error=InvalidRequestError("no")))

    async def other() -> None:
        async with request(redis_url, fingerprint="another"):
            raise UnavailableError("who knows whether it was made")

    with pytest.raises(UnavailableError):
        asyncio.run(other())
    with pytest.raises(InvalidRequestError, match="came before"):
        asyncio.run(act(redis_url))


def test_a_key_outlives_its_request_by_a_day(redis_url: str) -> None:
    asyncio.run(act(redis_url))
    with redis.Redis.from_url(redis_url) as client:
        (name,) = client.keys("dv:requests:*")
        assert client.pttl(name) > milliseconds(timedelta(hours=23))
