"""What an API process does besides answering."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from service.batches.background import running_batches
from service.context import ServiceContext
from service.housekeeping import housekeeping
from service.sources.background import fetching_sources
from service.uploads.sweeping import sweeping_uploads
from service.webhooks.dispatch import running_webhooks


@asynccontextmanager
async def run_background(context: ServiceContext) -> AsyncIterator[None]:
    """Runs it while the block does."""
    async with AsyncExitStack() as stack:
        for run in (sweeping_uploads, fetching_sources, running_webhooks, running_batches, housekeeping):
            await stack.enter_async_context(run(context))
        yield
