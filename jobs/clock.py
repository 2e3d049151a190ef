"""One clock for all machines, Redis's: their own may differ by minutes, and they compare their times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import redis

LUA_NOW_MS = """
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
"""
"""For scripts: the same clock, in milliseconds since 1970."""


def redis_now(client: redis.Redis) -> datetime:
    """What time it is, in UTC.

    Raises:
        StoreUnavailableError: If Redis does not answer.
    """
    answer: Any = client.time()  # typed as the union of what any setting gives
    seconds, micros = answer
    return datetime.fromtimestamp(int(seconds) + int(micros) // 1000 / 1000, UTC)


def milliseconds(duration: timedelta) -> int:
    """A duration for scripts."""
    return int(duration.total_seconds() * 1000)


def unix_ms(at: datetime) -> int:
    """A time for scripts and records."""
    return round(at.timestamp() * 1000)


def from_unix_ms(value: bytes | str) -> datetime:
    """The time that a script or `unix_ms` wrote, in UTC."""
    return datetime.fromtimestamp(int(float(value)) / 1000, UTC)
