"""Looks after batches: notices when one is done, and goes on with what a killed process has left."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

from starlette.concurrency import run_in_threadpool

from jobs import keys
from jobs.batch_records import BatchSpec
from jobs.batch_store import BatchStore
from jobs.errors import BatchNotFoundError
from service.batches.schemas import BatchSchema
from service.batches.service import QUEUE, TASK, batch_ttl, cancel_batch
from service.context import ServiceContext
from service.quotas import release_inputs
from service.repeating import leading
from service.tasks import enqueue_task
from service.webhooks import outbox
from service.webhooks.links import with_absolute_links

_PERIOD_SECONDS = 5.0
# An intake that was asked for again is given so long to begin.
_ASKED_SECONDS = 30
_SWEPT_AT_ONCE = 100
_EVENT = "batch.completed"


def looking_after_batches(context: ServiceContext) -> AbstractAsyncContextManager[None]:
    """Looks after them while the block runs, in one of all API processes."""
    return leading(context.client, "batches.look_after", lambda: look_after(context), seconds=_PERIOD_SECONDS)


async def look_after(context: ServiceContext) -> None:
    """One round over all batches that are not settled, and over the expired ones."""
    store = BatchStore(context.client)
    for batch_id in await run_in_threadpool(store.active_ids):
        await _look_after(context, store, batch_id)
    for batch_id in await run_in_threadpool(store.expired_ids, limit=_SWEPT_AT_ONCE):
        await run_in_threadpool(_forget, context, store, batch_id)


async def settle_batch(context: ServiceContext, batch_id: str) -> None:
    """Ends a batch if it is done, and tells its customer. Harmless to repeat: the event keeps its id."""
    store = BatchStore(context.client)
    try:
        batch = await run_in_threadpool(store.get, batch_id)
    except BatchNotFoundError:
        return
    if not batch.is_done or batch.expires_at is not None:
        return
    # The time is noted first and never changes, so the event has the same id whoever sends it, and however
    # often; only then the batch is settled, so it is sent at least once.
    at = await run_in_threadpool(store.complete_once, batch_id)
    if at is None:
        return
    target = batch.spec.webhook
    if target is not None and outbox.wants(target, _EVENT):
        batch = await run_in_threadpool(store.get, batch_id)
        rejected = await run_in_threadpool(store.rejected, batch_id)
        data = BatchSchema.of(batch, rejected).model_dump(mode="json")
        await outbox.send(
            context,
            target,
            owner=batch.spec.owner,
            event=_EVENT,
            subject_id=batch_id,
            at_ms=int(at.timestamp() * 1000),
            data=with_absolute_links(data, context.settings.public_url),
        )
    await run_in_threadpool(store.settle, batch_id, ttl=batch_ttl(context))


async def _look_after(context: ServiceContext, store: BatchStore, batch_id: str) -> None:
    try:
        batch = await run_in_threadpool(store.get, batch_id)
    except BatchNotFoundError:
        return
    if batch.is_done:
        await settle_batch(context, batch_id)
    elif batch.is_cancelled:
        await run_in_threadpool(cancel_batch, context, batch)
    elif batch.num_waiting:
        await _ask_for_intake(context, batch.spec)


async def _ask_for_intake(context: ServiceContext, spec: BatchSpec) -> None:
    """Asks for jobs to be made, unless somebody is at it or was asked a moment ago."""
    client: Any = context.async_client
    if await client.exists(keys.BATCH_INTAKE(spec.id)):
        return
    if await client.set(keys.BATCH_INTAKE_ASKED(spec.id), b"1", nx=True, ex=_ASKED_SECONDS):
        await run_in_threadpool(
            enqueue_task, context, QUEUE, TASK, spec.id, owner=spec.owner, weight=spec.limits.weight
        )


def _forget(context: ServiceContext, store: BatchStore, batch_id: str) -> None:
    owner = ""
    with suppress(BatchNotFoundError):
        batch = store.get(batch_id)
        owner = batch.spec.owner
        release_inputs(context, batch)
    store.delete(batch_id, owner=owner)
