"""Locks in Redis, and what is done again and again by whoever of all processes holds one."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import redis
import structlog

from jobs import keys
from jobs.clock import milliseconds
from jobs.errors import StoreUnavailableError
from jobs.redis_store import RedisStore

_log: Any = structlog.get_logger(__name__)
_STOP_SECONDS = 1.0
_NEVER = float("-inf")

# ARGV: lock, token, ttl in ms. Returns for how many ms it is still another's.
_TAKE = """
local holder = redis.call('GET', ARGV[1])
if holder and holder ~= ARGV[2] then return math.max(1, redis.call('PTTL', ARGV[1])) end
redis.call('SET', ARGV[1], ARGV[2], 'PX', ARGV[3])
return 0
"""
_KEEP = """
if redis.call('GET', ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('PEXPIRE', ARGV[1], ARGV[3])
"""
_RELEASE = "if redis.call('GET', ARGV[1]) == ARGV[2] then redis.call('DEL', ARGV[1]) end"


class Lock(RedisStore):
    """What one holder has at a time, until it is released or not kept for too long. Thread-safe.

    redis-py's own lock is not harmless to take twice: where Redis's answer was lost and the client asks
    again, it finds the lock taken, by itself.

    Args:
        client: Of the store's database.
        name: Its key.
        ttl: For how long it is held after it was taken or kept.
        token: Of the holder; scripts may ask for it. None for a random one.
    """

    def __init__(self, client: redis.Redis, name: str, *, ttl: timedelta, token: str | None = None) -> None:
        super().__init__(client)
        self.name, self.ttl, self.token = name, ttl, token or secrets.token_hex(16)

    def take(self) -> bool:
        """Holds it from now on, unless another does. Harmless to repeat."""
        return self.attempt() == timedelta()

    def attempt(self) -> timedelta:
        """As `take`, and tells how long it is another's who neither keeps nor releases it: zero once held."""
        return timedelta(milliseconds=self._run(_TAKE, self.name, self.token, milliseconds(self.ttl)))

    def keep(self) -> bool:
        """Holds it for as long again, unless it has been over or another's meanwhile."""
        return bool(self._run(_KEEP, self.name, self.token, milliseconds(self.ttl)))

    def release(self) -> None:
        """Lets others take it."""
        self._run(_RELEASE, self.name, self.token)


class Leadership:
    """Whether this process is the one of all that does something. After a pause of a process two may think
    so for a moment, so what they do must be harmless to repeat.

    Args:
        client: Of the store's database.
        name: Of what is done.
        interval: Between two times. Another process takes over from one that has died after four, or after
            `shortest`; one leader sees several states in turn.
        shortest: For which it is held at least.

    Attributes:
        others_seconds: For which it was another's when it was last asked for, unless they go on.
    """

    def __init__(self, client: redis.Redis, name: str, *, interval: timedelta, shortest: timedelta) -> None:
        ttl = max(shortest, 4 * interval)
        self._lock = Lock(client, keys.LEADER(name), ttl=ttl)
        self._renew_at, self._renew_seconds = _NEVER, ttl.total_seconds() / 3
        self.others_seconds = 0.0

    def holds(self) -> bool:
        """Whether this process leads. Takes over where nobody does.

        Raises:
            StoreUnavailableError: If Redis does not answer.
        """
        now = time.monotonic()
        if now < self._renew_at:
            return True
        self._renew_at = _NEVER
        self.others_seconds = self._lock.attempt().total_seconds()
        if self.others_seconds:
            return False
        self._renew_at = now + self._renew_seconds
        return True

    def hand_over(self) -> None:
        """Lets another process lead, at once if Redis answers."""
        if self._renew_at != _NEVER:
            with suppress(StoreUnavailableError, redis.RedisError):
                self._lock.release()


@contextmanager
def leading(client: redis.Redis, name: str, interval: timedelta, act: Callable[[], object]) -> Iterator[None]:
    """Acts every so often in a thread while the block runs, in one of all processes that would.

    The others look again when the leader's time would be over, also where it hands over before: thousands of
    them would ask Redis for nothing.

    Args:
        client: Of the store's database.
        name: Of what is done.
        interval: Before each time.
        act: What to do; errors are logged, and it is tried again next time.
    """
    leadership = Leadership(client, name, interval=interval, shortest=timedelta(seconds=1))
    stopping = threading.Event()

    def run() -> None:
        wait = interval.total_seconds()
        while not stopping.wait(wait):
            wait = interval.total_seconds()
            try:
                if leadership.holds():
                    act()
                else:
                    # Not all of them in the same moment.
                    wait = max(wait, leadership.others_seconds + random.uniform(0, wait))
            except Exception:
                # Whatever it is: a thread that ended would be missed by nobody until jobs stand still.
                _log.warning("leader.failed", name=name, exc_info=True)
        leadership.hand_over()

    thread = threading.Thread(target=run, name=f"dovetail-{name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(_STOP_SECONDS)
