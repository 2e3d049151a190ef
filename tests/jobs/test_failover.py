"""The store goes on when Redis fails over to its replica, and after it has lost its last second."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from pydantic import ValidationError

from jobs.connections import async_client, impatient_client, patient_client
from jobs.queue import JobQueue, make_broker
from jobs.records import JobState, Priority
from jobs.settings import CommonSettings
from jobs.store import JobStore
from tests.jobs.made import complete, create
from tests.sentinels import WatchedPair, watched_pair


@pytest.fixture
def pair() -> Iterator[WatchedPair]:
    with watched_pair() as running:
        yield running


def test_clients_follow_the_master(pair: WatchedPair) -> None:
    settings = CommonSettings(redis_url=pair.url)
    with (
        patient_client(settings.redis_url) as client,
        impatient_client(settings.redis_url) as impatient,
        patient_client(settings.effective_queue_redis_url) as queue_client,
    ):
        store = JobStore(client)
        queue = JobQueue(make_broker(queue_client, heartbeat_timeout=timedelta(seconds=2)))
        job_id = create(store).id
        queue.enqueue_plan(job_id, Priority.NORMAL)
        pair.wait_for_replica()

        # What a worker does meanwhile waits, and is done by the new master.
        working = threading.Thread(target=complete, args=(store, create(store).id))
        working.start()
        pair.fail_over()
        working.join(30)
        assert not working.is_alive()

        assert store.get(job_id).state is JobState.QUEUED
        assert {task.job_id for task in queue.tasks()} == {job_id}
        complete(store, job_id)
        assert JobStore(impatient).get(job_id).state is JobState.COMPLETED

    async def read() -> bytes:
        async with async_client(settings.redis_url) as waiting:
            return bytes(await waiting.hget(f"dv:job:{job_id}", "state"))

    assert asyncio.run(read()) == b"completed"


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://",
        "redis+sentinel://host:26379",
        "redis+sentinel://host/service",
        "redis+sentinel://host:26379,other/service/0",
        "redis+sentinel://host:26379/service/first",
    ],
)
def test_a_wrong_address_of_sentinels_is_named(url: str) -> None:
    with pytest.raises(ValidationError, match="is no address of Sentinels; write redis"):
        CommonSettings(redis_url=url)


def test_a_wrong_address_of_sentinels_does_not_show_the_password() -> None:
    with pytest.raises(ValidationError) as caught:
        CommonSettings(redis_url="redis+sentinel://me:secret@host/service")
    (problem,) = caught.value.errors(include_input=False)
    assert "secret" not in problem["msg"]


def test_the_queue_is_in_the_next_database() -> None:
    settings = CommonSettings(redis_url="redis+sentinel://me:p%40ss@one:1,[::1]:2/dovetail/3")
    assert settings.effective_queue_redis_url == "redis+sentinel://me:p%40ss@one:1,[::1]:2/dovetail/4"
