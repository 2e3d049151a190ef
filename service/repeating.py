"""Something that is done again and again in the background: by every API process, or by one of all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial

import redis
import structlog
from starlette.concurrency import run_in_threadpool

from jobs.errors import StoreUnavailableError
from jobs.locks import Leadership, Lock

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
    client: redis.Redis,
    name: str,
    act: Callable[[], Awaitable[object]],
    *,
    seconds: float,
    held_seconds: float = _HELD_SECONDS,
) -> AsyncIterator[None]:
    """As `repeating`, in one of all API processes: the one that holds a lock in Redis (`jobs.locks`). After a
    pause of a process two may act at once for a moment, so `act` must be harmless to repeat.

    Args:
        client: Of the store.
        name: Of the lock, and for the log.
        act: What to do.
        seconds: Between the end of one round and the start of the next.
        held_seconds: After so long, or four rounds, another process takes over from one that has died. One
            that is stopped hands over at once.
    """
    leadership = Leadership(
        client, name, interval=timedelta(seconds=seconds), shortest=timedelta(seconds=held_seconds)
    )

    async def act_if_leader() -> None:
        if await run_in_threadpool(leadership.holds):
            await act()
        else:
            await asyncio.sleep(max(0.0, _ASK_SECONDS - seconds))

    try:
        async with repeating(name, act_if_leader, seconds=seconds):
            yield
    finally:
        await run_in_threadpool(leadership.hand_over)


@asynccontextmanager
async def holding(lock: Lock) -> AsyncIterator[bool]:
    """Whether a lock is this block's while it runs. One that gets lost meanwhile is not noticed here.

    Raises:
        StoreUnavailableError: If Redis does not answer at the beginning.
    """
    if not await run_in_threadpool(lock.take):
        yield False
        return
    keep = partial(run_in_threadpool, lock.keep)
    try:
        async with repeating(lock.name, keep, seconds=lock.ttl.total_seconds() / 3):
            yield True
    finally:
        with suppress(StoreUnavailableError):  # it expires by itself
            await run_in_threadpool(lock.release)
