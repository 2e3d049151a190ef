"""Machines whose clocks differ work together: what they compare is Redis's time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
import redis
from dramatiq import Message

from jobs.clock import RedisClock, redis_now
from jobs.connections import impatient_client
from jobs.fleet import Fleet, WorkerInfo
from jobs.queue import JobQueue, TaskId, make_broker
from jobs.records import Priority
from tests.redis_server import RedisServer

SKEWS = pytest.mark.parametrize("skew", [-600.0, 600.0])


@contextmanager
def wrong_clock(monkeypatch: pytest.MonkeyPatch, skew: float) -> Iterator[None]:
    """What another machine does whose clock is so many seconds ahead."""
    right = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: right() + skew)
        patch.setattr("dramatiq.common.time", time.time)
        yield


@contextmanager
def machine(redis_server: RedisServer) -> Iterator[JobQueue]:
    """The queue as one machine sees it."""
    with impatient_client(redis_server.queue_url) as client:
        yield JobQueue(make_broker(client, heartbeat_timeout=timedelta(seconds=2)))


def eta_of_delayed(queue: JobQueue) -> datetime:
    """When the delayed message is due, as the machine that has fetched it reckons."""
    (data,) = queue.broker.do_fetch("normal.DQ", 1)
    return datetime.fromtimestamp(Message.decode(data).options["eta"] / 1000)


@SKEWS
def test_a_worker_whose_clock_is_wrong_is_alive(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    fleet = Fleet(client)
    with wrong_clock(monkeypatch, skew):
        fleet.report(WorkerInfo(id="wrong", host="a", pid=1))
    fleet.report(WorkerInfo(id="right", host="b", pid=1))
    assert {worker.id for worker in fleet.workers()} == {"wrong", "right"}
    with wrong_clock(monkeypatch, skew):
        assert {worker.id for worker in fleet.workers()} == {"wrong", "right"}


def test_a_silent_worker_is_forgotten_unless_it_has_just_reported(client: redis.Redis) -> None:
    fleet = Fleet(client)
    for name in ("silent", "back"):
        info = WorkerInfo(id=name, host="a", pid=1, reported_at=redis_now(client).timestamp() - 60)
        client.hset("dv:workers", name, info.model_dump_json())
    fleet.report(WorkerInfo(id="back", host="a", pid=1))
    assert [worker.id for worker in fleet.workers()] == ["back"]
    assert client.hkeys("dv:workers") == [b"back"]


@SKEWS
def test_messages_of_a_worker_whose_clock_is_wrong_stay_its_own(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    with machine(redis_server) as wrong, machine(redis_server) as right:
        right.enqueue_plan("a", Priority.NORMAL, owner="me")
        with wrong_clock(monkeypatch, skew):
            assert len(wrong.broker.do_fetch("normal_new", 1)) == 1
        assert right.broker.do_fetch("normal_new", 1) == []
        with wrong_clock(monkeypatch, skew):
            assert wrong.broker.do_fetch("normal_new", 1) == []


@SKEWS
def test_a_delay_is_as_long_on_machines_with_different_clocks(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    with machine(redis_server) as wrong, machine(redis_server) as right:
        with wrong_clock(monkeypatch, skew):
            wrong.enqueue(TaskId("a", "segment:1"), Priority.NORMAL, owner="me", delay=timedelta(minutes=1))
        left = eta_of_delayed(right).timestamp() - time.time()
        assert 50 < left < 70
        right.enqueue(TaskId("a", "segment:2"), Priority.NORMAL, owner="me", delay=timedelta(minutes=1))
        with wrong_clock(monkeypatch, skew):
            left = eta_of_delayed(wrong).timestamp() - time.time()
        assert 50 < left < 70


def test_the_clock_goes_on_between_two_looks_at_redis(client: redis.Redis) -> None:
    clock = RedisClock(client)
    before = redis_now(client).timestamp() * 1000
    times = [clock.now_ms() for _ in range(3)]
    assert times == sorted(times)
    assert before - 1 <= times[0] <= redis_now(client).timestamp() * 1000 + 1
