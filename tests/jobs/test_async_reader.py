"""Looking at jobs: what a poll gets, and what it costs Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from jobs.async_reader import AsyncJobReader
from jobs.connections import async_client, impatient_client
from jobs.errors import JobNotFoundError, StoreUnavailableError
from jobs.records import JobState
from jobs.specs import PRIORITIES
from jobs.store import JobStore
from tests.jobs.made import begin, create
from tests.redis_server import RedisServer

T = TypeVar("T")


def read(redis_server: RedisServer, act: Callable[[AsyncJobReader], Awaitable[T]]) -> T:
    """What a function gets from a reader."""

    async def run() -> T:
        client = async_client(redis_server.url)
        try:
            return await act(AsyncJobReader(client))
        finally:
            await client.aclose()

    return asyncio.run(run())


def test_a_look_has_the_job_and_its_place(store: JobStore, redis_server: RedisServer) -> None:
    low, normal, high = (create(store, priority=priority) for priority in reversed(PRIORITIES))

    async def places(reader: AsyncJobReader) -> list[int | None]:
        return [(await reader.look(job.id)).queue_position for job in (high, normal, low)]

    assert read(redis_server, places) == [1, 2, 3]
    begin(store, high.id, "plan")
    assert read(redis_server, places) == [None, 1, 2]
    found = read(redis_server, lambda reader: reader.look(high.id, owner="local"))
    assert (found.job, found.state) == (store.get(high.id), JobState.IN_PROGRESS)


def test_what_has_been_seen_is_not_read_again(store: JobStore, redis_server: RedisServer) -> None:
    ahead, job = create(store), create(store)
    seen = read(redis_server, lambda reader: reader.look(job.id)).tag
    assert read(redis_server, lambda reader: reader.look(job.id, seen=f'"7-1", W/{seen}')).job is None
    assert read(redis_server, lambda reader: reader.look(job.id, seen=seen.strip('"'))).job is not None
    begin(store, ahead.id, "plan")
    moved = read(redis_server, lambda reader: reader.look(job.id, seen=seen))
    assert (moved.queue_position, moved.job) == (1, job)


def test_many_looks_at_once_are_few_scripts_and_each_gets_its_own(
    store: JobStore, redis_server: RedisServer
) -> None:
    ids = [create(store, owner=f"owner {number}").id for number in range(150)]

    async def look(reader: AsyncJobReader) -> list[Any]:
        looks = [reader.look(job_id, owner=f"owner {number}") for number, job_id in enumerate(ids)]
        return await asyncio.gather(*looks, reader.look(ids[0], owner="another"), return_exceptions=True)

    read(redis_server, look)  # loads the script
    before = num_scripts(store)
    *found, another = read(redis_server, look)
    assert [look.job.id for look in found] == ids
    assert isinstance(another, JobNotFoundError)
    assert num_scripts(store) - before <= 3


def test_who_goes_away_leaves_the_others_their_answers(store: JobStore, redis_server: RedisServer) -> None:
    ids = [create(store).id for _ in range(3)]

    async def look(reader: AsyncJobReader) -> list[str]:
        looks = [asyncio.create_task(reader.look(job_id)) for job_id in ids]
        await asyncio.sleep(0)
        looks[1].cancel()
        return [found.job.id for found in (await looks[0], await looks[2]) if found.job is not None]

    assert read(redis_server, look) == [ids[0], ids[2]]


def test_an_outage_is_told_to_everybody_and_over_when_it_is_over(own_redis: RedisServer) -> None:
    with impatient_client(own_redis.url) as client:
        job_id = create(JobStore(client)).id

    async def look(reader: AsyncJobReader) -> list[Any]:
        own_redis.kill()
        lost = await asyncio.gather(*(reader.look(job_id) for _ in range(5)), return_exceptions=True)
        own_redis.restart()
        return [*lost, await reader.look(job_id)]

    *lost, found = read(own_redis, look)
    assert [type(error) for error in lost] == [StoreUnavailableError] * 5
    assert found.job is not None


def test_no_job_is_found_under_a_name_that_is_none(store: JobStore, redis_server: RedisServer) -> None:
    with pytest.raises(JobNotFoundError):
        read(redis_server, lambda reader: reader.look("job_00000000000000000000000000"))


def num_scripts(store: JobStore) -> int:
    """Scripts that the server has run."""
    found = store.client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})
    return int(found["calls"])
