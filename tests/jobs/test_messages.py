"""Who gets which message, when, and that none is lost."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import hypothesis
import hypothesis.strategies as st
import pytest
import redis
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from jobs._scripts import messages as scripts
from jobs.connections import impatient_client
from jobs.messages import Delivery, Message, MessageQueue, Wanted
from tests.redis_server import RedisServer

HOLD = timedelta(seconds=60)
WANTED = Wanted(queues=("high", "low"), groups=(("new",), ("begun", "other")))


@pytest.fixture
def messages(redis_server: RedisServer) -> Iterator[MessageQueue]:
    with impatient_client(redis_server.queue_url) as client:
        yield MessageQueue(client)


def put(
    messages: MessageQueue,
    name: str,
    queue: str = "low",
    line: str = "new",
    *,
    owner: str = "me",
    weight: int = 1,
    delay: timedelta = timedelta(),
) -> None:
    messages.put(Message(queue, name, line, owner, weight), delay=delay)


def take(messages: MessageQueue, *, hold: timedelta = HOLD, wanted: Wanted = WANTED) -> Delivery:
    found = messages.take(wanted, hold=hold)
    assert isinstance(found, Delivery)
    return found


def names_left(messages: MessageQueue, count: int | None = None) -> list[str]:
    """What is taken, one after the other, and finished."""
    names: list[str] = []
    while count is None or len(names) < count:
        found = messages.take(WANTED, hold=HOLD)
        if not isinstance(found, Delivery):
            break
        messages.finish(found)
        names.append(found.id)
    return names


def all_keys(messages: MessageQueue) -> set[str]:
    return {key.decode() for key in messages.client.scan_iter()}


def test_higher_queues_come_first_and_each_is_first_come_first_served(messages: MessageQueue) -> None:
    for number in range(3):
        for queue in ("low", "high"):
            put(messages, f"{queue}{number}", queue)
    assert names_left(messages) == ["high0", "high1", "high2", "low0", "low1", "low2"]


def test_nothing_is_left_of_what_is_done(messages: MessageQueue) -> None:
    for number in range(5):
        put(messages, f"a{number}", owner=f"o{number % 2}")
        put(messages, f"b{number}", line="begun", delay=timedelta(milliseconds=1))
    time.sleep(0.01)
    assert len(names_left(messages)) == 10
    # Constants, and the time that owners have had lately.
    assert all_keys(messages) <= {
        "dv:queue:places",
        "dv:queue:low:present",
        "dv:queue:low:rested",
        "dv:queue:bell:new",
        "dv:queue:bell:begun",
        "dv:queue:bell:other",
    }
    assert messages.client.zcard("dv:queue:low:rested") <= 3


def test_what_waits_is_put_once(messages: MessageQueue) -> None:
    put(messages, "a")
    put(messages, "b")
    put(messages, "a")
    assert messages.ids("low") == ["a", "b"]
    assert names_left(messages) == ["a", "b"]


def test_of_two_times_the_earlier_counts(messages: MessageQueue) -> None:
    put(messages, "a", delay=timedelta(hours=1))
    put(messages, "a", delay=timedelta(hours=2))
    found = messages.take(WANTED, hold=HOLD)
    assert isinstance(found, float)
    assert 3590 < found <= 3600
    put(messages, "a")
    assert names_left(messages) == ["a"]


def test_a_delay_is_waited_for_without_polling(messages: MessageQueue) -> None:
    put(messages, "a", delay=timedelta(milliseconds=300))
    begin = time.monotonic()
    rounds = 0
    while not isinstance(found := messages.take(WANTED, hold=HOLD), Delivery):
        messages.wait(WANTED.bells, found)
        rounds += 1
    assert time.monotonic() - begin >= 0.299
    assert rounds <= 3


def test_a_bell_wakes_whoever_waits(messages: MessageQueue) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(messages.wait, WANTED.bells, 2.0)
        time.sleep(0.1)
        assert not waiting.done()
        begin = time.monotonic()
        put(messages, "a", line="other")
        waiting.result(timeout=5)
    assert time.monotonic() - begin < 1


def test_many_that_wait_share_what_comes_at_once(redis_server: RedisServer, messages: MessageQueue) -> None:
    taken: list[str] = []
    is_over = threading.Event()

    def work() -> None:
        with impatient_client(redis_server.queue_url) as client:
            own = MessageQueue(client)
            while not is_over.is_set():
                found = own.take(WANTED, hold=HOLD)
                if isinstance(found, Delivery):
                    taken.append(found.id)
                    is_over.wait(0.2)  # a second one of the same worker would come later than all others'
                    own.finish(found)
                else:
                    own.wait(WANTED.bells, found)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(work)
        time.sleep(0.3)
        begin = time.monotonic()
        for number in range(8):
            put(messages, str(number))
        while len(taken) < 8 and time.monotonic() - begin < 10:
            time.sleep(0.005)
        seconds = time.monotonic() - begin
        is_over.set()
    assert sorted(taken) == sorted(map(str, range(8)))
    # Two rounds of 0.2 s at most on a busy machine, not eight.
    assert seconds < 1


def test_what_nobody_keeps_comes_back_first_and_its_holder_has_lost_it(messages: MessageQueue) -> None:
    for name in ("a", "b"):
        put(messages, name)
    lost = take(messages, hold=timedelta(milliseconds=50))
    time.sleep(0.06)
    again = take(messages)
    assert (again.id, again.num_tries) == ("a", 2)
    assert not messages.keep(lost, hold=HOLD)
    messages.finish(lost)
    messages.put_back(lost)
    assert messages.depths(["low"]) == [(1, 1)]
    messages.finish(again)
    assert names_left(messages) == ["b"]


def test_what_is_kept_stays(messages: MessageQueue) -> None:
    put(messages, "a")
    held = take(messages, hold=timedelta(milliseconds=50))
    assert messages.keep(held, hold=HOLD)  # however late: nobody has taken it
    time.sleep(0.06)
    assert not isinstance(messages.take(WANTED, hold=HOLD), Delivery)


def test_what_is_put_back_is_next_or_comes_later(messages: MessageQueue) -> None:
    for name in ("a", "b"):
        put(messages, name)
    messages.put_back(take(messages))
    first = take(messages)
    assert first.id == "a"
    messages.put_back(first, delay=timedelta(milliseconds=500))
    assert take(messages).id == "b"
    time.sleep(0.51)
    assert take(messages).num_tries == 3


def test_what_is_put_while_it_is_held_is_delivered_again(messages: MessageQueue) -> None:
    """As when planning asks for itself: the end of the first delivery must not end the second."""
    put(messages, "a")
    first = take(messages)
    put(messages, "a")
    messages.finish(first)
    assert names_left(messages) == ["a"]


def test_scripts_that_are_sent_again_do_nothing_again(messages: MessageQueue) -> None:
    """As a client does that has lost the answer."""
    one = ("low", "a", "new", "me", 1, 0, "this call")
    run_put = messages.client.register_script(scripts.PUT)
    run_take = messages.client.register_script(scripts.TAKE)
    run_put(args=one)
    put(messages, "b")
    wanted = ("receipt", 60_000, '["low"]', '[["new"]]')
    answers = [run_take(args=wanted) for _ in range(2)]
    assert answers[0] == answers[1] == [b"low", b"a", b"new", 1]
    run_put(args=one)  # while it is held
    assert messages.depths(["low"]) == [(1, 1)]
    for _ in range(2):
        messages.finish(Delivery("low", "a", "new", 1, "receipt"))
    assert names_left(messages) == ["b"]


def test_names_may_be_any_text(messages: MessageQueue) -> None:
    names = ["a b  c", "ü:{x}", 'with "quotes"', "%d", "0 a"]
    for name in names:
        put(messages, name, owner=f"owner {name}")
    assert sorted(names_left(messages)) == sorted(names)


def shares(names: list[str]) -> Counter[str]:
    return Counter(name.split()[0] for name in names)


@pytest.mark.parametrize(("weight", "expected"), [(1, {"a": 20, "b": 20}), (3, {"a": 30, "b": 10})])
def test_owners_take_turns_by_weight_however_much_they_have(
    messages: MessageQueue, weight: int, expected: dict[str, int]
) -> None:
    for number in range(150):
        put(messages, f"a {number}", owner="a", weight=weight)
    for number in range(20):
        put(messages, f"b {number}", owner="b")
    names = names_left(messages, 40)
    assert shares(names) == pytest.approx(expected, abs=1)
    assert shares(names[:8]).keys() == {"a", "b"}
    # Of one owner, first come, first served.
    of_a = [name for name in names if name.startswith("a")]
    assert of_a == [f"a {number}" for number in range(len(of_a))]


def test_new_work_of_one_owner_does_not_hold_up_another(messages: MessageQueue) -> None:
    for number in range(50):
        put(messages, f"a new {number}", owner="a")
        put(messages, f"a begun {number}", owner="a", line="begun")
    for number in range(10):
        put(messages, f"b begun {number}", owner="b", line="begun")
    names = names_left(messages, 20)
    assert shares(names) == pytest.approx({"a": 10, "b": 10}, abs=1)
    # And its own new and begun work takes turns.
    assert sum("new" in name for name in names) == pytest.approx(5, abs=1)


def test_an_owner_that_was_idle_has_not_saved_up_turns(messages: MessageQueue) -> None:
    for number in range(30):
        put(messages, f"a {number}", owner="a")
    names_left(messages)
    for number in range(10):
        put(messages, f"a {number}", owner="a")
        put(messages, f"b {number}", owner="b")
    assert shares(names_left(messages, 10)) == pytest.approx({"a": 5, "b": 5}, abs=1)


def test_owners_whose_work_this_one_does_not_do_are_passed_over(messages: MessageQueue) -> None:
    for number in range(150):
        put(messages, f"a {number}", owner=f"a{number:03d}", line="heavy")
    put(messages, "b", owner="b")
    assert names_left(messages) == ["b"]
    assert len(messages.ids("low")) == 150


class Model(RuleBasedStateMachine):
    """Whatever is done in whatever order, what is put is delivered until it is finished, to one at a time."""

    held = Bundle("held")

    def __init__(self, url: str) -> None:
        super().__init__()
        self.client = impatient_client(url)
        self.client.flushdb()
        self.messages = MessageQueue(self.client)
        self.waiting: set[tuple[str, str]] = set()
        self.owner_of: dict[tuple[str, str], str] = {}

    def teardown(self) -> None:
        self.client.close()

    @rule(
        queue=st.sampled_from(["high", "low"]),
        name=st.sampled_from("abcdef"),
        line=st.sampled_from(["new", "begun", "other"]),
        owner=st.sampled_from("xyz"),
        weight=st.integers(1, 4),
    )
    def put(self, queue: str, name: str, line: str, owner: str, weight: int) -> None:
        self.messages.put(Message(queue, name, line, owner, weight))
        self.waiting.add((queue, name))
        self.owner_of.pop((queue, name), None)

    @rule(target=held)
    def take(self) -> Delivery | None:
        found = self.messages.take(WANTED, hold=HOLD)
        if not isinstance(found, Delivery):
            assert not self.waiting
            return None
        assert (found.queue, found.id) in self.waiting
        assert found.queue == "high" or not any(queue == "high" for queue, _ in self.waiting)
        self.waiting.remove((found.queue, found.id))
        self.owner_of[found.queue, found.id] = found.receipt
        return found

    @rule(delivery=consumes(held), is_back=st.booleans())
    def release(self, delivery: Delivery | None, is_back: bool) -> None:
        if delivery is None:
            return
        (self.messages.put_back if is_back else self.messages.finish)(delivery)
        key = delivery.queue, delivery.id
        if self.owner_of.get(key) == delivery.receipt:
            del self.owner_of[key]
            if is_back:
                self.waiting.add(key)

    @invariant()
    def counts_are_right(self) -> None:
        for queue, (waiting, taken) in zip(WANTED.queues, self.messages.depths(WANTED.queues), strict=True):
            assert waiting == sum(name == queue for name, _ in self.waiting)
            assert taken == sum(name == queue for name, _ in self.owner_of)


def test_any_order_of_calls(redis_server: RedisServer) -> None:
    run_state_machine_as_test(
        lambda: Model(redis_server.queue_url),
        settings=hypothesis.settings(max_examples=40, stateful_step_count=30, deadline=None),
    )


def test_redis_errors_are_not_taken_for_outages(messages: MessageQueue) -> None:
    messages.client.set("dv:queue:low:messages", "of another type")
    with pytest.raises(redis.ResponseError):
        put(messages, "a")
