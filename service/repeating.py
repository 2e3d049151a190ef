"""Something that is done again and again in the background of an API process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

_log = structlog.get_logger(__name__)


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
