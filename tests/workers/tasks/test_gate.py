"""Which message a worker takes next."""

from __future__ import annotations

import threading
import time
from collections import Counter
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
            queue.enqueue_plan(f"{priority}{number}", priority, owner="local")
    with consumer.running():
        wait_until(lambda: len(consumer.taken) == 9)
    assert consumer.taken == [f"{priority}{number}" for priority in PRIORITIES for number in range(3)]


def test_new_jobs_and_begun_ones_take_turns(queue: JobQueue, consumer: Consumer) -> None:
    for number in range(3):
        queue.enqueue_plan(f"new {number}", Priority.NORMAL, owner="local")
    for number in range(2):
        queue.enqueue_plan(f"begun {number}", Priority.NORMAL, is_continuation=True, owner="local")
    with consumer.running():
        wait_until(lambda: len(consumer.taken) == 5)
    kinds = [name.split()[0] for name in consumer.taken]
    assert kinds in (["new", "begun", "new", "begun", "new"], ["begun", "new", "begun", "new", "new"])
    assert [name for name in consumer.taken if "new" in name] == ["new 0", "new 1", "new 2"]


def test_nothing_waits_behind_a_running_task(redis_server: RedisServer, queue: JobQueue) -> None:
    busy, idle = Consumer(redis_server), Consumer(redis_server)
    busy.may_go_on.clear()
    with busy.running():
        queue.enqueue_plan("first", Priority.NORMAL, owner="local")
        wait_until(lambda: busy.taken)
        for priority in PRIORITIES:
            queue.enqueue_plan(f"second {priority}", priority, owner="local")
        with idle.running():
            wait_until(lambda: len(idle.taken) == 3)
        assert busy.taken == ["first"]


def test_a_task_that_comes_meanwhile_at_higher_priority_is_next(queue: JobQueue, consumer: Consumer) -> None:
    consumer.may_go_on.clear()
    with consumer.running():
        queue.enqueue_plan("first", Priority.LOW, owner="local")
        wait_until(lambda: consumer.taken)
        queue.enqueue_plan("third", Priority.LOW, owner="local")
        queue.enqueue_plan("second", Priority.HIGH, owner="local")
        consumer.may_go_on.set()
        wait_until(lambda: len(consumer.taken) == 3)
    assert consumer.taken == ["first", "second", "third"]


def test_delayed_messages_come_when_their_time_has_come(queue: JobQueue, consumer: Consumer) -> None:
    with consumer.running():
        queue.enqueue_segment("unused", 0, Priority.LOW, delay=timedelta(hours=1), owner="local")
        begin = time.monotonic()
        queue._enqueue(Priority.HIGH, "plan", ("later",), timedelta(milliseconds=300), owner="local")
        queue.enqueue_plan("now", Priority.LOW, owner="local")
        wait_until(lambda: "later" in consumer.taken)
        assert time.monotonic() - begin >= 0.3
        wait_until(lambda: sorted(consumer.taken) == ["later", "now"])
    assert {task.task for task in queue.tasks()} == {"segment:0"}


def test_waiting_and_delayed_messages_go_back_when_a_worker_stops(
    redis_server: RedisServer, queue: JobQueue, consumer: Consumer
) -> None:
    consumer.may_go_on.clear()
    with consumer.running():
        queue._enqueue(Priority.HIGH, "plan", ("later",), timedelta(minutes=1), owner="local")
        queue.enqueue_plan("first", Priority.NORMAL, owner="local")
        wait_until(lambda: consumer.taken)
        queue.enqueue_plan("second", Priority.NORMAL, owner="local")
        consumer.broker.gate.close()
    assert consumer.taken == ["first"]
    with redis.Redis.from_url(redis_server.queue_url) as client:
        assert client.llen("dramatiq:normal_new") == 1
        assert client.llen("dramatiq:high.DQ") == 1


def test_a_message_whose_answer_got_lost_is_not_stuck(queue: JobQueue, consumer: Consumer) -> None:
    """As when the connection breaks after the server has handed the message out."""
    queue.enqueue_plan("lost", Priority.NORMAL, owner="local")
    consumer.broker.do_fetch("normal_new", 1)
    queue._enqueue(Priority.LOW, "plan", ("delayed",), timedelta(milliseconds=1), owner="local")
    consumer.broker.do_fetch("low.DQ", 1)
    with consumer.running():
        wait_until(lambda: sorted(consumer.taken) == ["delayed", "lost"])


def test_messages_of_a_dead_worker_come_back_and_those_of_a_busy_one_do_not(
    redis_server: RedisServer, queue: JobQueue
) -> None:
    dead, busy, other = (Consumer(redis_server) for _ in range(3))
    busy.may_go_on.clear()
    queue.enqueue_plan("of the dead", Priority.NORMAL, owner="local")
    dead.broker.do_fetch("normal_new", 1)
    dead.client.close()
    with busy.running():
        queue.enqueue_plan("of the busy", Priority.HIGH, owner="local")
        wait_until(lambda: busy.taken)
        with other.running():
            # By then the busy one has been busy for longer than a heartbeat may take.
            wait_until(lambda: other.taken)
    assert (busy.taken[0], other.taken) == ("of the busy", ["of the dead"])


def test_a_message_for_an_unknown_task_does_not_block_the_worker(queue: JobQueue, consumer: Consumer) -> None:
    queue.broker.enqueue(
        Message(queue_name="normal", actor_name="unheard-of", args=(), kwargs={}, options={})
    )
    queue.enqueue_plan("known", Priority.NORMAL, owner="local")
    with consumer.running():
        wait_until(lambda: consumer.taken)
    assert consumer.taken == ["known"]


def shares(taken: list[str]) -> Counter[str]:
    return Counter(name.split()[0] for name in taken)


@pytest.mark.parametrize(("weight", "expected"), [(1, {"a": 20, "b": 20}), (3, {"a": 30, "b": 10})])
def test_keys_take_turns_by_weight_however_many_jobs_they_have(
    queue: JobQueue, consumer: Consumer, weight: int, expected: dict[str, int]
) -> None:
    for number in range(150):
        job = f"a {number % 50}"
        queue.enqueue_plan(job, Priority.NORMAL, owner="a", weight=weight, is_continuation=True)
    for _ in range(20):
        queue.enqueue_plan("b 0", Priority.NORMAL, owner="b", is_continuation=True)
    with consumer.running():
        wait_until(lambda: len(consumer.taken) >= 40)
    taken = consumer.taken[:40]
    assert shares(taken) == pytest.approx(expected, abs=1)
    assert shares(taken[:8]).keys() == {"a", "b"}
    # Within the key, job after job.
    of_a = [name for name in taken if name.startswith("a")]
    assert of_a == [f"a {number}" for number in range(len(of_a))]


def test_new_jobs_of_one_key_do_not_hold_up_another(queue: JobQueue, consumer: Consumer) -> None:
    for _ in range(50):
        queue.enqueue_plan("a new", Priority.NORMAL, owner="a")
        queue.enqueue_plan("a begun", Priority.NORMAL, owner="a", is_continuation=True)
    for _ in range(10):
        queue.enqueue_plan("b begun", Priority.NORMAL, owner="b", is_continuation=True)
    with consumer.running():
        wait_until(lambda: len(consumer.taken) >= 20)
    assert shares(consumer.taken[:20]) == pytest.approx({"a": 10, "b": 10}, abs=1)
    # And its own new and begun ones take turns.
    assert Counter(consumer.taken[:20])["a new"] == pytest.approx(5, abs=1)


def test_a_key_that_was_idle_has_not_saved_up_turns(queue: JobQueue, consumer: Consumer) -> None:
    for number in range(30):
        queue.enqueue_plan(f"a {number}", Priority.NORMAL, owner="a")
    with consumer.running():
        wait_until(lambda: len(consumer.taken) == 30)
        consumer.may_go_on.clear()
        queue.enqueue_plan("a last", Priority.NORMAL, owner="a")
        wait_until(lambda: len(consumer.taken) == 31)
        for number in range(10):
            queue.enqueue_plan(f"a {number}", Priority.NORMAL, owner="a")
            queue.enqueue_plan(f"b {number}", Priority.NORMAL, owner="b")
        consumer.may_go_on.set()
        wait_until(lambda: len(consumer.taken) >= 41)
    assert shares(consumer.taken[31:41]) == pytest.approx({"a": 5, "b": 5}, abs=1)


def test_messages_that_are_missing_in_the_index_are_taken_in_their_turn(
    redis_server: RedisServer, queue: JobQueue, consumer: Consumer
) -> None:
    """As after a death between enqueueing and indexing, or when a dead worker's messages come back."""
    for number in range(20):
        queue.enqueue_plan(f"a {number}", Priority.NORMAL, owner="a")
        queue.enqueue_plan(f"b {number}", Priority.NORMAL, owner="b")
    with redis.Redis.from_url(redis_server.queue_url) as client:
        client.delete("dramatiq:normal_new.turns", "dramatiq:normal_new.turns.ids")
        # And one that the index knows and that is gone.
        client.zadd("dramatiq:normal_new.turns", {f"a {0:020d} 1 unknown": 0})
        client.hset("dramatiq:normal_new.turns.ids", "unknown", f"a {0:020d} 1 unknown")
    with consumer.running():
        wait_until(lambda: len(consumer.taken) == 40)
    assert shares(consumer.taken[:20]) == pytest.approx({"a": 10, "b": 10}, abs=1)
    with redis.Redis.from_url(redis_server.queue_url) as client:
        assert client.zcard("dramatiq:normal_new.turns") == client.hlen("dramatiq:normal_new.turns.ids") == 0
