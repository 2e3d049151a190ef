from __future__ import annotations

import threading
import time

import pytest

from workers.run.threads import Channel, ChannelAborted, StageThreads


def num_threads() -> int:
    return sum(thread.name.startswith("dovetail-") for thread in threading.enumerate())


def test_items_come_out_in_order_and_the_loop_ends() -> None:
    channel: Channel[int] = Channel(2)

    def produce() -> None:
        for number in range(100):
            channel.put(number)
        channel.finish()

    with StageThreads(channel) as threads:
        threads.start("producer", produce)
        assert list(channel) == list(range(100))
    assert num_threads() == 0


def test_a_producer_waits_for_a_slow_consumer() -> None:
    channel: Channel[int] = Channel(3)
    num_put = 0

    def produce() -> None:
        nonlocal num_put
        for number in range(20):
            channel.put(number)
            num_put += 1
        channel.finish()

    with StageThreads(channel) as threads:
        threads.start("producer", produce)
        for number in channel:
            time.sleep(0.002)
            # What waits, what is in this loop, and what was let in since.
            assert num_put - number <= 3 + 2


def test_an_error_in_a_thread_is_raised_and_stops_the_others() -> None:
    channel: Channel[int] = Channel(1)

    def fail() -> None:
        channel.put(1)
        raise ZeroDivisionError("in the thread")

    def run() -> None:
        with StageThreads(channel) as threads:
            threads.start("failing", fail)
            list(channel)

    with pytest.raises(ZeroDivisionError, match="in the thread"):
        run()
    assert num_threads() == 0


def test_an_error_of_the_block_wakes_threads_that_wait() -> None:
    full, empty = Channel[int](1), Channel[int](1)

    def fill() -> None:
        while True:
            full.put(1)

    def drain() -> None:
        for _ in empty:
            pass

    def run() -> None:
        with StageThreads(full, empty) as threads:
            threads.start("filling", fill)
            threads.start("waiting", drain)
            time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert num_threads() == 0


def test_an_aborted_channel_drops_what_waits() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    channel.abort()
    with pytest.raises(ChannelAborted):
        list(channel)
    with pytest.raises(ChannelAborted):
        channel.put(2)
