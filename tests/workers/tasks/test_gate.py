"""Which message a worker takes next."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import dramatiq
import pytest
import redis
from dramatiq import Message

from jobs.connections import patient_client
from jobs.queue import JobQueue, make_broker
from jobs.records import PRIORITIES, Priority
from tests.redis_server import RedisServer
from tests.workers.tasks.farm import wait_until
from workers.gate import GatedBroker

HEARTBEAT = timedelta(seconds=1)


class Consumer:
    """A worker of one actor that remembers what it was given and can be held up."""

    def __init__(self, server: RedisServer) -> None:
        self.client = patient_client(server.queue_url)
        broker = make_broker(self.client, heartbeat_timeout=HEARTBEAT, broker_class=GatedBroker)
        assert isinstance(broker, GatedBroker)
        self.broker = broker
        self.taken: list[str] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        dramatiq.actor(actor_name="plan", queue_name="normal", broker=broker)(self._run)
        self.worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=50)

    def _run(self, name: str) -> None:
        self.taken.append(name)
        assert self.may_go_on.wait(30)

    @contextmanager
    def running(self) -> Iterator[None]:
        self.worker.start()
        try:
            yield
        finally:
            self.may_go_on.set()
            self.worker.stop()
            self.client.close()


@pytest.fixture
def queue(redis_server: RedisServer) -> Iterator[JobQueue]:
    with patient_client(redis_server.queue_url) as client:
        yield JobQueue(make_broker(client, heartbeat_timeout=HEARTBEAT))


@pytest.fixture
def consumer(redis_server: RedisServer) -> Consumer:
    return Consumer(redis_server)


def num_waiting(queue: JobQueue) -> int:
    return sum(waiting for waiting, _ in queue.depths().values())


def test_higher_queues_are_emptied_first(queue: JobQueue, consumer: Consumer) -> None:
    for number in range(3):
        for priority in reversed(PRIORITIES):
            queue.enqueue_plan(f"{priority}{number}", priority)
    with consumer.running():
        wait_until(lambda: len(consumer.taken) == 9)
    assert consumer.taken == [f"{priority}{number}" for priority in PRIORITIES for number in range(3)]


def test_new_jobs_and_begun_ones_take_turns(queue: JobQueue, consumer: Consumer) -> None:
    for number in range(3):
        queue.enqueue_plan(f"new {number}", Priority.NORMAL)
    for number in range(2):
        queue.enqueue_plan(f"begun {number}", Priority.NORMAL, is_continuation=True)
    with consumer.running():
        wait_until(lambda: len(consumer.taken) == 5)
    kinds = [name.split()[0] for name in consumer.taken]
    assert kinds in (["new", "begun", "new", "begun", "new"], ["begun", "new", "begun", "new", "new"])
    assert [name for name in consumer.taken if "new" in name] == ["new 0", "new 1", "new 2"]


def test_nothing_waits_behind_a_running_task(redis_server: RedisServer, queue: JobQueue) -> None:
    busy, idle = Consumer(redis_server), Consumer(redis_server)
    busy.may_go_on.clear()
    with busy.running():
        queue.enqueue_plan("first", Priority.NORMAL)
        wait_until(lambda: busy.taken)
        for priority in PRIORITIES:
            queue.enqueue_plan(f"second {priority}", priority)
        with idle.running():
            wait_until(lambda: len(idle.taken) == 3)
        assert busy.taken == ["first"]


def test_a_task_that_comes_meanwhile_at_higher_priority_is_next(queue: JobQueue, consumer: Consumer) -> None:
    consumer.may_go_on.clear()
    with consumer.running():
        queue.enqueue_plan("first", Priority.LOW)
        wait_until(lambda: consumer.taken)
        queue.enqueue_plan("third", Priority.LOW)
        queue.enqueue_plan("second", Priority.HIGH)
        consumer.may_go_on.set()
        wait_until(lambda: len(consumer.taken) == 3)
    assert consumer.taken == ["first", "second", "third"]


def test_delayed_messages_come_when_their_time_has_come(queue: JobQueue, consumer: Consumer) -> None:
    with consumer.running():
        queue.enqueue_segment("unused", 0, Priority.LOW, delay=timedelta(hours=1))
        queue._enqueue(Priority.HIGH, "plan", ("later",), timedelta(milliseconds=300))
        queue.enqueue_plan("now", Priority.LOW)
        wait_until(lambda: len(consumer.taken) == 2)
    assert consumer.taken == ["now", "later"]
    assert {task.task for task in queue.tasks()} == {"segment:0"}


def test_waiting_and_delayed_messages_go_back_when_a_worker_stops(
    redis_server: RedisServer, queue: JobQueue, consumer: Consumer
) -> None:
    consumer.may_go_on.clear()
    with consumer.running():
        queue._enqueue(Priority.HIGH, "plan", ("later",), timedelta(minutes=1))
        queue.enqueue_plan("first", Priority.NORMAL)
        wait_until(lambda: consumer.taken)
        queue.enqueue_plan("second", Priority.NORMAL)
        consumer.broker.gate.close()
    assert consumer.taken == ["first"]
    with redis.Redis.from_url(redis_server.queue_url) as client:
        assert client.llen("dramatiq:normal_new") == 1
        assert client.llen("dramatiq:high.DQ") == 1


def test_a_message_whose_answer_got_lost_is_not_stuck(queue: JobQueue, consumer: Consumer) -> None:
    """As when the connection breaks after the server has handed the message out."""
    queue.enqueue_plan("lost", Priority.NORMAL)
    consumer.broker.do_fetch("normal_new", 1)
    queue._enqueue(Priority.LOW, "plan", ("delayed",), timedelta(milliseconds=1))
    consumer.broker.do_fetch("low.DQ", 1)
    with consumer.running():
        wait_until(lambda: sorted(consumer.taken) == ["delayed", "lost"])


def test_messages_of_a_dead_worker_come_back_and_those_of_a_busy_one_do_not(
    redis_server: RedisServer, queue: JobQueue
) -> None:
    dead, busy, other = (Consumer(redis_server) for _ in range(3))
    busy.may_go_on.clear()
    queue.enqueue_plan("of the dead", Priority.NORMAL)
    dead.broker.do_fetch("normal_new", 1)
    dead.client.close()
    with busy.running():
        queue.enqueue_plan("of the busy", Priority.HIGH)
        wait_until(lambda: busy.taken)
        with other.running():
            # By then the busy one has been busy for longer than a heartbeat may take.
            wait_until(lambda: other.taken)
    assert (busy.taken[0], other.taken) == ("of the busy", ["of the dead"])


def test_a_message_for_an_unknown_task_does_not_block_the_worker(queue: JobQueue, consumer: Consumer) -> None:
    queue.broker.enqueue(
        Message(queue_name="normal", actor_name="unheard-of", args=(), kwargs={}, options={})
    )
    queue.enqueue_plan("known", Priority.NORMAL)
    with consumer.running():
        wait_until(lambda: consumer.taken)
    assert consumer.taken == ["known"]
