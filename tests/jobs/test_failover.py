"""The store goes on when Redis fails over to its replica, and after it has lost its last second."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from pydantic import ValidationError

from benchmarks.watched_pair import WatchedPair, watched_pair
from jobs.connections import async_client, impatient_client, patient_client
from jobs.errors import StoreUnavailableError
from jobs.queue import JobQueue, TaskId
from jobs.reconciler import reconcile_once
from jobs.records import JobState
from jobs.settings import CommonSettings
from jobs.store import JobStore
from tests.jobs.made import MINUTE, begin, complete, create, make_segment, plan
from tests.redis_server import RedisServer

T = TypeVar("T")


@pytest.fixture
def pair() -> Iterator[WatchedPair]:
    with watched_pair() as running:
        yield running


def once_it_answers(read: Callable[[], T], *, seconds: float = 30) -> T:
    """What is read by a client that gives up where the Sentinels are not of one mind yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            return read()
        except StoreUnavailableError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def test_clients_follow_the_master(pair: WatchedPair) -> None:
    settings = CommonSettings(redis_url=pair.url)
    with (
        patient_client(settings.redis_url) as client,
        impatient_client(settings.redis_url) as impatient,
        patient_client(settings.effective_queue_redis_url) as queue_client,
    ):
        store = JobStore(client)
        queue = JobQueue(queue_client)
        job_id = create(store).id
        queue.enqueue(store.get(job_id).spec, "plan")
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
        assert once_it_answers(lambda: JobStore(impatient).get(job_id)).state is JobState.COMPLETED

    async def read() -> bytes:
        async with async_client(settings.redis_url) as waiting:
            return bytes(await waiting.hget(f"dv:job:{job_id}", "state"))

    assert once_it_answers(lambda: asyncio.run(read())) == b"completed"


@pytest.fixture
def lazy_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server as `dovetail serve` runs it: what is written is synced every second."""
    server = RedisServer.start_in(tmp_path, appendfsync="everysec")
    yield server
    server.stop()


def test_an_accepted_job_survives_a_power_loss_and_can_be_ended(lazy_redis: RedisServer) -> None:
    with (
        patient_client(lazy_redis.url) as client,
        patient_client(lazy_redis.queue_url) as queue_client,
    ):
        store = JobStore(client)
        queue = JobQueue(queue_client)
        job_id = create(store).id
        # Accepted: from here on the power may go at any moment, and take everything later with it.
        accepted_bytes = lazy_redis.log_bytes
        queue.enqueue(store.get(job_id).spec, "plan")
        plan(store, job_id, 2)
        planned_bytes = lazy_redis.log_bytes
        make_segment(store, job_id, *store.advance(job_id, window=1).segments)
        begin(store, job_id, "segment:1")

        # In the middle of a command; then with a plan whose segments nobody has heard of.
        lazy_redis.lose_power(planned_bytes - 3)
        lazy_redis.restart()
        assert store.get(job_id).state is JobState.IN_PROGRESS
        lazy_redis.lose_power(accepted_bytes)
        lazy_redis.restart()
        assert store.get(job_id).state is JobState.QUEUED
        assert queue.tasks() == set()
        suspects = reconcile_once(store, queue, set(), cancelled_ttl=MINUTE)
        reconcile_once(store, queue, suspects, cancelled_ttl=MINUTE)
        assert queue.tasks() == {TaskId(job_id, "plan")}
        complete(store, job_id)


def test_a_job_is_accepted_when_it_is_synced_and_replicated(
    lazy_redis: RedisServer, pair: WatchedPair
) -> None:
    with patient_client(lazy_redis.url) as client, patient_client(pair.url) as replicated:
        create(JobStore(client))
        assert client.info("commandstats")["cmdstat_waitaof"]["calls"] == 1
        job_id = create(JobStore(replicated)).id
        pair.fail_over()
        assert JobStore(replicated).get(job_id).state is JobState.QUEUED


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


def test_inputs_come_from_elsewhere_unless_all_sentinels_are_on_this_machine() -> None:
    for hosts, requires in (("127.0.0.1:1,[::1]:2", False), ("127.0.0.1:1,[2001:db8::1]:2", True)):
        settings = CommonSettings(redis_url=f"redis+sentinel://{hosts}/dovetail/0")
        assert settings.requires_sandbox is requires
