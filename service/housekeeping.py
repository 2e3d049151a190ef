"""Repairing and sweeping, also where no worker is alive: whoever of all processes gets the lock does it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.concurrency import run_in_threadpool

from jobs.reconciler import Reconciler, reconcile_interval
from jobs.sweeper import Sweeper
from service.context import ServiceContext


@asynccontextmanager
async def housekeeping(context: ServiceContext) -> AsyncIterator[None]:
    """Runs it in threads while the block does."""
    settings = context.settings
    reconciler = Reconciler(
        context.store,
        context.queue,
        cancelled_ttl=settings.failed_ttl,
        interval=reconcile_interval(settings.heartbeat_timeout),
    )
    sweeper = Sweeper(context.store, context.storage, settings)
    reconciler.start()
    sweeper.start()
    try:
        yield
    finally:
        await run_in_threadpool(reconciler.stop)
        await run_in_threadpool(sweeper.stop)
