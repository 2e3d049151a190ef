"""Machines whose clocks differ work together: what they compare is Redis's time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import redis

from jobs.clock import redis_now
from jobs.connections import impatient_client
from jobs.fleet import Fleet, WorkerInfo
from jobs.messages import Delivery
from jobs.queue import JobQueue, tasks_for
from tests.jobs.made import make_spec
from tests.redis_server import RedisServer

HOLD, TASKS = timedelta(seconds=60), tasks_for(["bicubic"])
SKEWS = pytest.mark.parametrize("skew", [-600.0, 600.0])


@contextmanager
def wrong_clock(monkeypatch: pytest.MonkeyPatch, skew: float) -> Iterator[None]:
    """What another machine does whose clock is so many seconds ahead."""
    right = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: right() + skew)
        yield


@contextmanager
def machine(redis_server: RedisServer) -> Iterator[JobQueue]:
    """The queue as one machine sees it."""
    with impatient_client(redis_server.queue_url) as client:
        yield JobQueue(client)


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
        right.enqueue(make_spec(), "plan")
        with wrong_clock(monkeypatch, skew):
            held = wrong.messages.take(TASKS, hold=HOLD)
            assert isinstance(held, Delivery)
        assert not isinstance(right.messages.take(TASKS, hold=HOLD), Delivery)
        with wrong_clock(monkeypatch, skew):
            assert wrong.messages.keep(held, hold=HOLD)
        assert not isinstance(right.messages.take(TASKS, hold=HOLD), Delivery)


@SKEWS
def test_a_delay_is_as_long_on_machines_with_different_clocks(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    minute = timedelta(minutes=1)
    with machine(redis_server) as wrong, machine(redis_server) as right:
        with wrong_clock(monkeypatch, skew):
            wrong.enqueue(make_spec(), "segment:1", delay=minute)
        left = right.messages.take(TASKS, hold=HOLD)
        assert isinstance(left, float)
        assert 50 < left <= 60
        with wrong_clock(monkeypatch, skew):
            assert wrong.messages.take(TASKS, hold=HOLD) == pytest.approx(left, abs=5)
