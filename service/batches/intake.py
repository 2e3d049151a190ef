"""Makes jobs of a batch's inputs in the background, in slices, a few at a time.

Every input has its job's id from the start and is noted when it is decided: a killed process's slice is done
again by another one, and still each input becomes one job.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import structlog
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from jobs import keys
from jobs.api_keys import Scope
from jobs.batch_records import Batch, BatchInput, RejectedInput
from jobs.batch_store import BatchStore
from jobs.errors import BatchNotFoundError, JobExistsError, JobsError, UploadNotFoundError
from jobs.locks import Lock
from jobs.objects import input_key, job_prefix, upload_key
from jobs.specs import InputInfo
from jobs.stored_bytes import StoredBytes
from jobs.transfers import FetchedSource
from jobs.uploads import UploadStore
from service.auth import Caller
from service.batches.service import QUEUE, TASK, cancel_batch
from service.batches.settling import settle_batch
from service.context import ServiceContext
from service.errors import ServiceError, from_jobs_error
from service.filenames import clean_filename
from service.jobs.service import enqueue_job, make_spec, probe_file
from service.jobs.submissions import JobForm, Source, UrlSource
from service.repeating import holding
from service.sources.fetching import describe_address
from service.tasks import LaterError, TaskKind, enqueue_task

_log = structlog.get_logger(__name__)
_SLICE = 32
_AT_ONCE = 4
# After so long a batch goes to the end of the queue, so that large ones take turns.
_TURN_SECONDS = 10.0
_FULL_DELAY = timedelta(seconds=3)
_SOURCE: TypeAdapter[Any] = TypeAdapter(Source)
# What passes with time: the queue or the quota is full, a part of the installation is away.
_PASSING = frozenset(
    {"queue_full", "quota_exceeded", "store_unavailable", "storage_error", "storage_full", "unavailable"}
)


async def admit(context: ServiceContext, batch_id: str) -> None:
    """Makes jobs of a batch's next inputs, and asks for itself again while some are left.

    Raises:
        LaterError: If the queue, the key's quota or the storage is full, or one of them does not answer.
    """
    async with _only_one(context, batch_id) as is_mine:
        if not is_mine:
            # Whoever is at it goes on; if that process dies, the batch is looked after (`settling`).
            return
        store = BatchStore(context.client)
        until = time.monotonic() + _TURN_SECONDS
        while True:
            try:
                batch = await run_in_threadpool(store.get, batch_id)
            except BatchNotFoundError:
                return
            inputs = (
                [] if batch.is_cancelled else await run_in_threadpool(store.undecided, batch_id, limit=_SLICE)
            )
            if not inputs:
                await settle_batch(context, batch_id)
                return
            is_full = not all(await _admit_slice(context, batch, inputs))
            await _follow_cancellation(context, batch_id, inputs)
            if is_full:
                raise LaterError("there is no room for more jobs", delay=_FULL_DELAY)
            if time.monotonic() > until:
                break
    spec = batch.spec
    await run_in_threadpool(
        enqueue_task, context, QUEUE, TASK, batch_id, owner=spec.owner, weight=spec.limits.weight
    )


# Each mostly waits: for probes and the store.
ADMIT = TaskKind(QUEUE, TASK, admit, num_at_once=8)


async def _admit_slice(context: ServiceContext, batch: Batch, inputs: list[BatchInput]) -> list[bool]:
    """Whether each was decided; the others must wait."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def admit_gated(item: BatchInput) -> bool:
        async with gate:
            return await _admit_input(context, batch, item)

    return await asyncio.gather(*(admit_gated(item) for item in inputs))


async def _admit_input(context: ServiceContext, batch: Batch, item: BatchInput) -> bool:
    store = BatchStore(context.client)
    problem: ServiceError
    try:
        await _make_job(context, batch, item)
    except ServiceError as error:
        problem = error
    except JobExistsError:
        # An earlier attempt has made the job and died before it could say so.
        await run_in_threadpool(store.decide, batch.id, item)
        return True
    except JobsError as error:
        problem = from_jobs_error(error)
        if error.code in _PASSING:
            return False
    else:
        await run_in_threadpool(store.decide, batch.id, item)
        return True
    if problem.status >= 500:
        return False
    if await run_in_threadpool(context.store.get_many, [item.job_id]):
        # It was made before this reason to reject it came up.
        await run_in_threadpool(store.decide, batch.id, item)
        return True
    rejected = RejectedInput(
        index=item.index, filename=item.filename, code=problem.problem_code, message=str(problem)
    )
    await run_in_threadpool(store.decide, batch.id, item, rejected)
    await run_in_threadpool(StoredBytes(context.client).set, batch.spec.owner, {item.job_id: 0})
    await run_in_threadpool(context.storage.delete_prefix, job_prefix(item.job_id))
    return True


async def _make_job(context: ServiceContext, batch: Batch, item: BatchInput) -> None:
    caller = Caller(batch.spec.owner, "", (Scope.WRITE,), batch.spec.limits)
    form = JobForm.model_validate(item.form)
    key = input_key(item.job_id)
    found: InputInfo | FetchedSource
    if item.source is None:
        async with context.readable_object(caller.owner, key) as path:
            found = await probe_file(context, path, form.filename, owner=caller.owner)
    else:
        source = _SOURCE.validate_python(item.source)
        if isinstance(source, UrlSource):
            found = describe_address(context, caller, source.url, filename=form.filename)
        else:
            # Whose it is and whether it has expired was looked at when the batch was accepted.
            upload = await run_in_threadpool(UploadStore(context.client).get, source.upload_id)
            if upload.found is None:
                raise UploadNotFoundError(upload.id)
            found, key = upload.found, upload_key(upload.id)
            if form.filename is not None:
                found = found.model_copy(update={"filename": clean_filename(form.filename)})
    spec = await run_in_threadpool(
        make_spec, context, caller, form, found, key=key, job_id=item.job_id, batch_id=batch.id
    )
    await run_in_threadpool(enqueue_job, context, caller, spec)


async def _follow_cancellation(context: ServiceContext, batch_id: str, inputs: list[BatchInput]) -> None:
    """Undoes what was made while the batch was being cancelled or deleted."""
    try:
        batch = await run_in_threadpool(BatchStore(context.client).get, batch_id)
    except BatchNotFoundError:
        for item in inputs:
            await run_in_threadpool(context.store.delete, item.job_id)
            await run_in_threadpool(context.storage.delete_prefix, job_prefix(item.job_id))
        return
    if batch.is_cancelled:
        await run_in_threadpool(cancel_batch, context, batch)


def _only_one(context: ServiceContext, batch_id: str) -> AbstractAsyncContextManager[bool]:
    """Whether this process is the one that works on the batch while the block runs. Where it was thought dead
    the same inputs are taken twice, which is harmless.

    The lock runs out before a dead process's message comes back to the queue.
    """
    return holding(Lock(context.client, keys.BATCH_INTAKE(batch_id), ttl=context.settings.lease_ttl))
