"""What `jobs.housekeeping` does, in an API process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from starlette.concurrency import run_in_threadpool

from jobs.housekeeping import housekeeping
from service.context import ServiceContext


@asynccontextmanager
async def keeping_house(context: ServiceContext) -> AsyncIterator[None]:
    """Runs it in threads while the block does."""
    stack = ExitStack()
    stack.enter_context(housekeeping(context.store, context.queue, context.storage, context.settings))
    try:
        yield
    finally:
        await run_in_threadpool(stack.close)  # waits for the threads
