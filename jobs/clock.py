"""One clock for all machines, Redis's: their own may differ by minutes, and they compare their times."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import redis

from jobs.outages import reported_outage

LUA_NOW_MS = """
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
"""
"""For scripts: the same clock, in milliseconds since 1970."""

# Computers' clocks part by some 50 ms in a quarter of an hour; a Redis that took over may have another one.
_KEPT_SECONDS = 10.0


def redis_now(client: redis.Redis) -> datetime:
    """What time it is, in UTC.

    Raises:
        StoreUnavailableError: If Redis does not answer.
    """
    with reported_outage():
        return datetime.fromtimestamp(_ask_ms(client) / 1000, UTC)


class RedisClock:
    """The time of a server for code that needs it with every command: asked for now and then, and carried on
    by this machine's monotonic clock in between. Thread-safe.

    Args:
        client: Of the server.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._asked_at, self._offset_ms = float("-inf"), 0.0

    def now_ms(self) -> int:
        """Milliseconds since 1970.

        Raises:
            redis.RedisError: If Redis does not answer when it is asked.
        """
        if time.monotonic() - self._asked_at > _KEPT_SECONDS:
            offset = _ask_ms(self._client) - time.monotonic() * 1000
            self._offset_ms, self._asked_at = offset, time.monotonic()
        return int(time.monotonic() * 1000 + self._offset_ms)


def _ask_ms(client: redis.Redis) -> int:
    answer: Any = client.time()  # typed as the union of what any setting gives
    seconds, micros = answer
    return int(seconds) * 1000 + int(micros) // 1000
