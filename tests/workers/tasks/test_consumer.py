"""One message at a time, held while it is worked on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from jobs.connections import patient_client
from jobs.messages import Delivery, Message, MessageQueue, Wanted
from tests.redis_server import RedisServer
from tests.workers.tasks.farm import shared_keeper, wait_until
from workers.consumer import Consumer
from workers.held import HeldMessage

HOLD = timedelta(seconds=1)
WANTED = Wanted(queues=("high", "low"), groups=(("work",),))


class Worker:
    """A consumer that remembers what it was given and can be held up."""

    def __init__(self, server: RedisServer) -> None:
        self.client = patient_client(server.queue_url)
        self.messages = MessageQueue(self.client)
        self.taken: list[str] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        keeper = shared_keeper()
        self.consumer = Consumer(
            self.messages,
            WANTED,
            self._work,
            hold=HOLD,
            keeping=lambda found: keeper.keeping(HeldMessage.of(found, url=server.queue_url, hold=HOLD)),
        )

    def _work(self, delivery: Delivery) -> None:
        self.taken.append(delivery.id)
        assert self.may_go_on.wait(30)
        if delivery.id.startswith("bad") and delivery.num_tries == 1:
            raise OSError("the storage is away")

    @contextmanager
    def running(self) -> Iterator[None]:
        self.consumer.start()
        try:
            yield
        finally:
            self.may_go_on.set()
            self.consumer.stop(timeout=10)
            self.client.close()


@pytest.fixture
def messages(redis_server: RedisServer) -> Iterator[MessageQueue]:
    with patient_client(redis_server.queue_url) as client:
        yield MessageQueue(client)


@pytest.fixture
def worker(redis_server: RedisServer) -> Worker:
    return Worker(redis_server)


def put(messages: MessageQueue, name: str, queue: str = "low", line: str = "work") -> None:
    messages.put(Message(queue, name, line, "me"))


def test_an_idle_worker_begins_at_once(messages: MessageQueue, worker: Worker) -> None:
    with worker.running():
        time.sleep(0.3)  # it waits at the bells
        begin = time.monotonic()
        put(messages, "a")
        wait_until(lambda: worker.taken)
    # It would wait for two seconds otherwise.
    assert time.monotonic() - begin < 1


def test_nothing_waits_behind_a_running_task(redis_server: RedisServer, messages: MessageQueue) -> None:
    busy, idle = Worker(redis_server), Worker(redis_server)
    busy.may_go_on.clear()
    with busy.running():
        put(messages, "first")
        wait_until(lambda: busy.taken)
        for number in range(3):
            put(messages, f"second {number}")
        with idle.running():
            wait_until(lambda: len(idle.taken) == 3)
        assert busy.taken == ["first"]


def test_what_comes_meanwhile_at_higher_priority_is_next(messages: MessageQueue, worker: Worker) -> None:
    worker.may_go_on.clear()
    with worker.running():
        put(messages, "first")
        wait_until(lambda: worker.taken)
        put(messages, "third")
        put(messages, "second", "high")
        worker.may_go_on.set()
        wait_until(lambda: len(worker.taken) == 3)
    assert worker.taken == ["first", "second", "third"]


def test_a_closed_worker_takes_nothing_and_stops_soon(messages: MessageQueue, worker: Worker) -> None:
    worker.may_go_on.clear()
    with worker.running():
        put(messages, "first")
        wait_until(lambda: worker.taken)
        worker.consumer.close()
        put(messages, "second")
        assert not worker.consumer.is_idle
        worker.may_go_on.set()
        wait_until(lambda: worker.consumer.is_idle)
    assert worker.taken == ["first"]
    assert messages.ids("low") == ["second"]


def test_an_idle_worker_stops_without_waiting_for_its_bells(worker: Worker) -> None:
    with worker.running():
        time.sleep(0.3)
        begin = time.monotonic()
    assert time.monotonic() - begin < 1


def test_messages_of_a_dead_worker_come_back_and_those_of_a_busy_one_do_not(
    redis_server: RedisServer, messages: MessageQueue
) -> None:
    busy, other = Worker(redis_server), Worker(redis_server)
    busy.may_go_on.clear()
    put(messages, "of the dead")
    assert isinstance(messages.take(WANTED, hold=2 * HOLD), Delivery)
    with busy.running():
        put(messages, "of the busy")
        wait_until(lambda: busy.taken)
        with other.running():
            # By then the busy one has been busy for longer than it may be silent.
            wait_until(lambda: other.taken)
    assert (busy.taken, other.taken) == (["of the busy"], ["of the dead"])


def test_what_fails_is_delivered_again_later(messages: MessageQueue, worker: Worker) -> None:
    put(messages, "bad")
    put(messages, "good")
    with worker.running():
        wait_until(lambda: len(worker.taken) == 3)
        wait_until(lambda: worker.consumer.is_idle)
    assert worker.taken == ["bad", "good", "bad"]
    assert messages.ids("low") == []


def test_a_fault_of_the_queue_does_not_end_the_worker(
    messages: MessageQueue, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, faults = worker.messages.take, [ValueError("an answer that nobody expects")]

    def fail_once(wanted: Wanted, *, hold: timedelta) -> Delivery | float:
        if faults:
            raise faults.pop()
        return take(wanted, hold=hold)

    monkeypatch.setattr(worker.messages, "take", fail_once)
    put(messages, "a")
    with worker.running():
        wait_until(lambda: worker.taken)
    assert worker.taken == ["a"]


def test_messages_of_an_unknown_kind_do_not_block_the_worker(messages: MessageQueue, worker: Worker) -> None:
    put(messages, "unheard-of", line="unknown")
    put(messages, "known")
    with worker.running():
        wait_until(lambda: worker.taken)
    assert worker.taken == ["known"]
    assert messages.ids("low") == ["unheard-of"]


def test_a_queue_that_goes_away_and_comes_back_is_worked_on(
    own_redis: RedisServer,
) -> None:
    worker = Worker(own_redis)
    with worker.running(), patient_client(own_redis.queue_url) as client:
        messages = MessageQueue(client)
        put(messages, "before")
        wait_until(lambda: worker.taken)
        own_redis.kill()
        own_redis.restart()
        put(messages, "after")
        wait_until(lambda: len(worker.taken) == 2)


def test_closing_does_not_wait_for_a_queue_that_is_away(own_redis: RedisServer) -> None:
    worker = Worker(own_redis)
    with worker.running():
        time.sleep(0.2)
        own_redis.kill()
        begin = time.monotonic()
        worker.consumer.close()
        assert time.monotonic() - begin < 5
        own_redis.restart()
