"""A circuit breaker for each receiver: one that is away or hangs is left alone for a while.

After several failures in a row it opens: nothing is sent. When its time is over, one delivery tries (half
open): it closes the breaker, or opens it for twice as long. The state is in Redis, so that all API processes
know, and pauses end by its clock; a receiver is a host as one customer uses it, so that nobody opens the
breaker of another.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio

from jobs import keys

NUM_FAILURES = 5
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(minutes=10)
# Longer than an attempt takes: a process that died while it tried does not keep the breaker open.
_TRIAL_SECONDS = 60
_KEPT = timedelta(days=1)


def receiver_of(owner: str, url: str) -> str:
    """What counts as one receiver: scheme, host and port of an address, for one owner."""
    parts = urlsplit(url)
    return f"{owner} {parts.scheme}://{(parts.hostname or '').lower()}:{parts.port}"


class CircuitBreaker:
    """The breakers of all receivers.

    Args:
        client: Of the store.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client: Any = client

    async def pause_seconds(self, receiver: str) -> float:
        """How long to wait before something may be sent; 0 for now. Who is told 0 by a breaker that was open
        makes the trial, and must say how it went."""
        if int(await self._client.hget(_key(receiver), "failures") or 0) < NUM_FAILURES:
            return 0.0
        left_ms = int(await self._client.pttl(f"{_key(receiver)}:pause"))
        if left_ms > 0:
            return left_ms / 1000
        is_ours = await self._client.set(f"{_key(receiver)}:trial", b"1", nx=True, ex=_TRIAL_SECONDS)
        return 0.0 if is_ours else FIRST_PAUSE.total_seconds()

    async def succeeded(self, receiver: str) -> None:
        """The receiver answered: closes the breaker."""
        await self._client.delete(*(f"{_key(receiver)}{suffix}" for suffix in ("", ":trial", ":pause")))

    async def failed(self, receiver: str) -> None:
        """The receiver did not answer, or is broken: the last of several in a row opens the breaker."""
        count = int(await self._client.hincrby(_key(receiver), "failures", 1))
        if count >= NUM_FAILURES:
            doublings = min(count - NUM_FAILURES, 10)
            pause = min(FIRST_PAUSE * 2**doublings, LONGEST_PAUSE)
            await self._client.set(f"{_key(receiver)}:pause", b"1", px=pause)
        await self._client.expire(_key(receiver), _KEPT)
        await self._client.delete(f"{_key(receiver)}:trial")


def _key(receiver: str) -> str:
    return keys.WEBHOOK_BREAKER(hashlib.sha256(receiver.encode()).hexdigest())
