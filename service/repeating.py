"""Something that is done again and again in the background: by every API process, or by one of all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import redis
import redis.asyncio
import structlog

_log = structlog.get_logger(__name__)
_HELD_SECONDS = 10.0
_ASK_SECONDS = 3.0


@asynccontextmanager
async def repeating(
    name: str, act: Callable[[], Awaitable[object]], *, seconds: float
) -> AsyncIterator[None]:
    """Acts every so often while the block runs. An error is logged and the next round tries again.

    Args:
        name: For the log.
        act: What to do.
        seconds: Between the end of one round and the start of the next.
    """

    async def run() -> None:
        while True:
            try:
                await act()
            except Exception as error:  # whatever it is: without this loop, nothing of its kind happens again
                _log.warning("background.failed", name=name, error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(seconds)

    task = asyncio.create_task(run(), name=name)
    try:
        yield
    finally:
        # More than once if need be: a cancellation that meets the end of a Redis call's own time limit can
        # get lost in it.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=1)


@asynccontextmanager
async def leading(
    client: redis.asyncio.Redis,
    name: str,
    act: Callable[[], Awaitable[object]],
    *,
    seconds: float,
    held_seconds: float = _HELD_SECONDS,
) -> AsyncIterator[None]:
    """As `repeating`, in one of all API processes: the one that holds a lock in Redis. After a pause of a
    process two may act at once for a moment, so `act` must be harmless to repeat.

    Args:
        client: Of the store.
        name: Of the lock, and for the log.
        act: What to do.
        seconds: Between the end of one round and the start of the next.
        held_seconds: After so long, or four rounds, another process takes over from one that has died. One
            that is stopped hands over at once.
    """
    leadership = _Leadership(client, name, held_seconds=max(held_seconds, 4 * seconds))

    async def act_if_leader() -> None:
        if await leadership.holds():
            await act()
        else:
            await asyncio.sleep(max(0.0, _ASK_SECONDS - seconds))

    try:
        async with repeating(name, act_if_leader, seconds=seconds):
            yield
    finally:
        await leadership.hand_over()


class _Leadership:
    """The lock, which is renewed now and then."""

    def __init__(self, client: redis.asyncio.Redis, name: str, *, held_seconds: float) -> None:
        self._lock: Any = client.lock(f"dv:leader:{name}", timeout=held_seconds, blocking=False)
        self._held_seconds, self._renew_at = held_seconds, 0.0

    async def holds(self) -> bool:
        """Whether this process leads. Takes the lock if nobody has it."""
        now = time.monotonic()
        if now < self._renew_at:
            return True
        is_renewal, self._renew_at = self._renew_at > 0, 0.0
        try:
            is_held = bool(await (self._lock.reacquire() if is_renewal else self._lock.acquire()))
        except redis.exceptions.LockError:  # another process has it
            return False
        if is_held:
            self._renew_at = now + self._held_seconds / 3
        return is_held

    async def hand_over(self) -> None:
        """Lets another process lead."""
        if self._renew_at > 0:
            with suppress(redis.RedisError):  # it expires by itself
                await self._lock.release()
