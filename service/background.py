"""What an API process does besides answering."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from service.batches.intake import ADMIT
from service.batches.settling import looking_after_batches
from service.context import ServiceContext
from service.deliveries.task import delivering
from service.housekeeping import keeping_house
from service.sources.task import make_fetching
from service.tasks import running_tasks
from service.uploads.sweeping import sweeping_uploads
from service.webhooks.dispatch import running_webhooks


@asynccontextmanager
async def run_background(context: ServiceContext) -> AsyncIterator[None]:
    """Runs it while the block does."""
    async with AsyncExitStack() as stack:
        for run in (
            sweeping_uploads,
            _making_jobs,
            running_webhooks,
            delivering,
            looking_after_batches,
            keeping_house,
        ):
            await stack.enter_async_context(run(context))
        yield


def _making_jobs(context: ServiceContext) -> AbstractAsyncContextManager[None]:
    """Makes jobs of the inputs of batches, and fetches the sources of jobs, while the block runs."""
    return running_tasks(context, [ADMIT, make_fetching()])
