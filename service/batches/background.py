"""What an API process does for batches besides answering."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.batches.intake import ADMIT
from service.batches.settling import looking_after_batches
from service.context import ServiceContext
from service.tasks import running_tasks


@asynccontextmanager
async def running_batches(context: ServiceContext) -> AsyncIterator[None]:
    """Makes jobs of inputs, and looks after batches, while the block runs."""
    async with running_tasks(context, [ADMIT]), looking_after_batches(context):
        yield
