"""Locks, and one leader of many."""

from __future__ import annotations

import threading
from datetime import timedelta

import redis

from jobs.locks import Lock, leading

MINUTE = timedelta(minutes=1)


def test_a_lock_has_one_holder_who_may_take_it_again_and_release_it(client: redis.Redis) -> None:
    first, second = Lock(client, "lock", ttl=MINUTE), Lock(client, "lock", ttl=MINUTE)
    assert [first.take(), first.take(), second.take()] == [True, True, False]
    second.release()  # is not its own
    assert not second.take()
    first.release()
    assert second.take()
    assert not first.keep()


def test_a_lock_that_was_over_is_not_kept(client: redis.Redis) -> None:
    lock = Lock(client, "lock", ttl=MINUTE)
    assert lock.take()
    assert lock.keep()
    client.delete("lock")  # as when its time is over
    assert not lock.keep()
    assert client.get("lock") is None


def test_one_leader_leads_until_it_stops(client: redis.Redis) -> None:
    interval = timedelta(milliseconds=10)
    did: list[str] = []
    enough, handed_over = threading.Event(), threading.Event()

    def first_acts() -> None:
        did.append("first")
        if len(did) >= 5:
            enough.set()

    def second_acts() -> None:
        did.append("second")
        handed_over.set()

    first, second = (leading(client, "it", interval, act) for act in (first_acts, second_acts))
    with first:
        assert enough.wait(10)
        with second:
            enough.clear()
            assert enough.wait(10)
            assert "second" not in did
    with leading(client, "it", interval, second_acts):
        assert handed_over.wait(10)


def test_who_does_not_lead_does_not_keep_asking(client: redis.Redis) -> None:
    interval = timedelta(milliseconds=10)
    acted, did_not = threading.Semaphore(0), threading.Event()
    with leading(client, "it", interval, acted.release):
        assert acted.acquire(timeout=10)
        with leading(client, "it", interval, did_not.set):
            before = _calls(client, "evalsha")
            for _ in range(50):
                assert acted.acquire(timeout=10)
            # The leader renews three times in its second, the other looks when that would be over.
            assert _calls(client, "evalsha") - before < 25
            assert not did_not.is_set()


def _calls(client: redis.Redis, command: str) -> int:
    return int(client.info("commandstats")[f"cmdstat_{command}"]["calls"])


def test_a_leader_goes_on_after_an_error(client: redis.Redis) -> None:
    acted = threading.Semaphore(0)

    def act() -> None:
        acted.release()
        raise ValueError("this time")

    with leading(client, "it", timedelta(milliseconds=10), act):
        assert acted.acquire(timeout=10)
        assert acted.acquire(timeout=10)
