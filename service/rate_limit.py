"""How often a key may ask: requests are counted in a sliding minute, by all API processes together."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import redis.asyncio

from jobs import keys
from jobs.clock import LUA_NOW_MS
from service.errors import ServiceError

_TAKEN_SECONDS = 60

# One script in place of the package `limits`, which takes three calls for a refusal, and another to tell what
# is left.
# The minutes are the clock's. What was asked in the one before counts as far as it is within sixty seconds,
# as if it had been spread evenly. Sent twice, it takes twice: what a key loses then is a second's worth.
# KEYS: counts. ARGV: requests in a minute, and how many are wanted.
# Returns how many were taken, how many are left, and in how many milliseconds there is one more.
_TAKE = (
    LUA_NOW_MS
    + """
local minute, limit, wanted = 60000, tonumber(ARGV[1]), tonumber(ARGV[2])
local now = now_ms()
local passed = now % minute / minute
local this = math.floor(now / minute)
local kept = redis.call('HMGET', KEYS[1], 'minute', 'count', 'before')
local age, count, before = this - (tonumber(kept[1]) or 0), tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
if age > 0 then count, before = 0, age == 1 and count or 0 end
local left = math.max(0, math.floor(limit - count - before * (1 - passed)))
local taken = math.min(left, wanted)
count, left = count + taken, left - taken
redis.call('HSET', KEYS[1], 'minute', this, 'count', count, 'before', before)
redis.call('PEXPIRE', KEYS[1], 2 * minute)
-- How much of both minutes may count for one more to be left.
local target = limit - left - 1
local at
if count <= target then at = 1 - (target - count) / before else at = 2 - target / count end
return {taken, left, math.ceil((at - passed) * minute)}
"""
)


@dataclass(frozen=True)
class Allowance:
    """What a key may still ask for.

    Attributes:
        limit: Requests in a minute.
        remaining: That are left of them, as far as this process knows.
        seconds: Until there is one more.
    """

    limit: int
    remaining: int
    seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """For the answer."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.seconds),
        }


class RateLimitedError(ServiceError):
    """Raised when a key asks too often."""

    status, code, title = 429, "rate_limited", "Too many requests"

    def __init__(self, allowance: Allowance) -> None:
        super().__init__(
            f"more than {allowance.limit} requests in a minute; wait, and poll less often",
            headers={"Retry-After": str(allowance.seconds), **allowance.headers},
        )


@dataclass
class _Taken:
    """Requests that this process may let through without asking, and what it was told when it took them."""

    here: int = 0
    until: float = 0.0
    elsewhere: int = 0
    more_at: float = 0.0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def count(self) -> bool:
        """Uses one, if there is one left."""
        if not self.here or time.monotonic() > self.until:
            return False
        self.here -= 1
        return True

    def allowance(self, limit: int) -> Allowance:
        seconds = max(0, ceil(self.more_at - time.monotonic()))
        return Allowance(limit, self.here + self.elsewhere, seconds)


class RateLimiter:
    """Counts requests per caller.

    A process takes a second's worth at once and counts these by itself, so that a poll need not ask Redis;
    what it has taken and not used after a minute is nobody's. So what it tells of what is left is as old as
    that: what other processes have taken since is not in it.

    Args:
        client: Of the store.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._take: Any = client.register_script(_TAKE)
        self._taken: dict[str, _Taken] = {}

    async def check(self, owner: str, requests_per_minute: int) -> Allowance:
        """Counts one request.

        Raises:
            RateLimitedError: If it is one too many.
        """
        taken = self._taken.setdefault(owner, _Taken())
        if not taken.count():
            async with taken.asking:
                if not taken.count():
                    await self._ask(taken, owner, requests_per_minute)
        return taken.allowance(requests_per_minute)

    async def _ask(self, taken: _Taken, owner: str, limit: int) -> None:
        """Takes a second's worth, or what there is, and uses one of it."""
        answer = await self._take(keys=[keys.RATE(owner)], args=[limit, max(1, limit // 60)])
        number, taken.elsewhere, more_in_ms = map(int, answer)
        now = time.monotonic()
        taken.more_at = now + more_in_ms / 1000
        if not number:
            raise RateLimitedError(Allowance(limit, 0, max(1, ceil(more_in_ms / 1000))))
        taken.here, taken.until = number - 1, now + _TAKEN_SECONDS
