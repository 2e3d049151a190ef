"""From a submission to a durable batch, and what can be done with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from starlette.concurrency import run_in_threadpool

from jobs.batch_records import Batch, BatchInput, BatchSpec, RejectedInput
from jobs.batch_store import BatchStore
from jobs.errors import JobNotFoundError, JobStateError, StoreUnavailableError
from jobs.objects import input_key, job_prefix
from jobs.records import Job
from jobs.specs import WebhookTarget, new_id
from jobs.stored_bytes import StoredBytes
from service.auth import Caller
from service.batches.checks import accepted_inputs, check_count, check_shared, lines_below
from service.batches.requests import Submission, job_webhook, make_input
from service.batches.schemas import BatchResultSchema, BatchResultsSchema, BatchSchema
from service.context import ServiceContext
from service.errors import InvalidRequestError
from service.filenames import clean_filename
from service.forms import ReceivedFile
from service.jobs.submissions import JobForm, JobSettings
from service.quotas import release_inputs
from service.tasks import enqueue_task

QUEUE, TASK = "intake", "admit_batch"
# A batch that never ends, because its source or its key's quota stays away, is forgotten after this.
_LONGEST = timedelta(days=90)
# A batch's record outlives its jobs a little, so that none is left that names it.
_AFTER_JOBS = timedelta(hours=1)
_REJECTIONS_TOLD = 20
_JOBS_AT_ONCE = 200


def create_batch(context: ServiceContext, caller: Caller, submission: Submission, *, batch_id: str) -> None:
    """Writes the record of a batch without files in it. Its jobs are made in the background. Blocking.

    Raises:
        ServiceError: If no input, or more than accepted, could become a job, or a shared value is refused.
        JobsError: If the store does not answer.
    """
    settings = submission.settings
    check_shared(context, caller, settings)
    lines = submission.lines
    if submission.prefix is not None:
        lines = lines_below(context, caller, submission.prefix)
    check_count(context, len(lines))
    inputs: list[BatchInput] = []
    rejected: list[RejectedInput] = []
    for index, (line, job_id) in enumerate(zip(lines, _new_job_ids(len(lines)), strict=True)):
        made = make_input(settings, index, line, job_id)
        if isinstance(made, BatchInput):
            inputs.append(made)
        else:
            rejected.append(made)
    inputs, refused = accepted_inputs(context, caller, inputs, lines)
    rejected = sorted([*rejected, *refused], key=lambda item: item.index)
    _write(context, caller, settings, inputs, rejected, batch_id=batch_id)


def create_file_batch(
    context: ServiceContext,
    caller: Caller,
    settings: JobSettings,
    files: Sequence[ReceivedFile],
    *,
    batch_id: str,
) -> None:
    """Writes the record of a batch of files, which are moved into the storage first. Blocking.

    Raises:
        ServiceError: If there are none, or a shared value is refused.
        JobsError: If store or storage do not answer, or there is no room.
    """
    check_shared(context, caller, settings)
    check_count(context, len(files))
    webhook = job_webhook(settings)
    base = settings.model_dump(exclude={"webhook"})
    job_ids = _new_job_ids(len(files))
    sizes = {job_id: file.path.stat().st_size for file, job_id in zip(files, job_ids, strict=True)}
    # As their jobs will: these may have to wait for long.
    StoredBytes(context.client).set(caller.owner, sizes, limit=caller.limits.max_stored_bytes)
    inputs, is_wanted = [], False
    try:
        for index, (file, job_id) in enumerate(zip(files, job_ids, strict=True)):
            filename = clean_filename(file.filename)
            form = JobForm.model_validate({**base, "webhook": webhook, "filename": filename})
            context.storage.put_file(input_key(job_id), file.path, is_movable=True)
            inputs.append(
                BatchInput(
                    index=index,
                    job_id=job_id,
                    source=None,
                    form=form.model_dump(mode="json"),
                    filename=filename,
                )
            )
        is_wanted = _write(context, caller, settings, inputs, [], batch_id=batch_id)
    except StoreUnavailableError:
        is_wanted = True  # the batch may be there: the sweeper removes files that no record names
        raise
    finally:
        if not is_wanted:
            StoredBytes(context.client).set(caller.owner, dict.fromkeys(sizes, 0))
            for item in inputs:
                context.storage.delete_prefix(job_prefix(item.job_id))


async def describe_batch(context: ServiceContext, batch_id: str, owner: str) -> BatchSchema:
    """A batch as customers see it.

    Raises:
        BatchNotFoundError: If there is none.
    """
    store = BatchStore(context.client)
    batch = await run_in_threadpool(store.get, batch_id, owner=owner)
    rejected = await run_in_threadpool(store.rejected, batch_id) if batch.num_rejected else []
    return BatchSchema.of(batch, rejected)


def jobs_of_batch(context: ServiceContext, job_ids: Sequence[str]) -> Iterator[Job]:
    """Jobs by id, without holding many of them. Blocking."""
    for start in range(0, len(job_ids), _JOBS_AT_ONCE):
        yield from context.store.get_many(job_ids[start : start + _JOBS_AT_ONCE])


def list_batch_results(
    context: ServiceContext, batch_id: str, *, limit: int, after: str | None
) -> BatchResultsSchema:
    """What has become of a batch's jobs, in the order of the inputs. Blocking."""
    ids = BatchStore(context.client).job_ids(batch_id, after=after, limit=limit + 1)
    page = ids[:limit]
    has_more = len(ids) > limit
    return BatchResultsSchema(
        data=[BatchResultSchema.of(job) for job in jobs_of_batch(context, page)],
        has_more=has_more,
        next=page[-1] if has_more else None,
    )


def cancel_batch(context: ServiceContext, batch: Batch) -> None:
    """Cancels what waits at once, and what runs at its next chunk. Blocking; harmless to repeat."""
    store = BatchStore(context.client)
    store.cancel(batch.id)
    release_inputs(context, batch)
    for job_id in store.job_ids(batch.id):
        with suppress(JobStateError, JobNotFoundError):
            context.store.cancel(job_id, ttl=context.settings.failed_ttl)


def delete_batch(context: ServiceContext, batch: Batch) -> None:
    """Removes a batch with its jobs and their files. Blocking; harmless to repeat."""
    store = BatchStore(context.client)
    # First nothing new: an input that is becoming a job now is removed by whoever makes it (`intake`).
    store.cancel(batch.id)
    for job_id in dict.fromkeys([*store.job_ids(batch.id), *store.input_job_ids(batch.id)]):
        context.store.delete(job_id)
        context.storage.delete_prefix(job_prefix(job_id))
    release_inputs(context, batch)
    store.delete(batch.id, owner=batch.spec.owner)


def batch_ttl(context: ServiceContext) -> timedelta:
    """How long the record of a finished batch is kept."""
    return max(context.settings.result_ttl, context.settings.failed_ttl) + _AFTER_JOBS


def _new_job_ids(count: int) -> list[str]:
    """Ids in ascending order, so that jobs are listed in the order of their inputs."""
    return sorted(new_id("job") for _ in range(count))


def _write(
    context: ServiceContext,
    caller: Caller,
    settings: JobSettings,
    inputs: list[BatchInput],
    rejected: list[RejectedInput],
    *,
    batch_id: str,
) -> bool:
    """Whether this call has made the batch; False if an earlier attempt at the same request has."""
    if not inputs:
        raise InvalidRequestError(
            f"none of the {len(rejected)} inputs can become a job; the first: {rejected[0].message}",
            errors=[
                {
                    "loc": ["body", "inputs", item.index],
                    "message": item.message,
                    "received": None if item.line is None else f"line {item.line}",
                }
                for item in rejected[:_REJECTIONS_TOLD]
            ],
        )
    webhook = settings.webhook
    now = datetime.now(UTC)
    spec = BatchSpec(
        id=batch_id,
        owner=caller.owner,
        limits=caller.limits,
        created_at=now,
        num_inputs=len(inputs) + len(rejected),
        labels=settings.labels,
        metadata=settings.metadata,
        webhook=None if webhook is None else WebhookTarget(url=webhook.url, events=tuple(webhook.events)),
    )
    store = BatchStore(context.client)
    is_new = store.create(spec, inputs, rejected, active_until=now + _LONGEST)
    # Where this fails, the record is there: whoever looks after active batches asks again.
    with suppress(StoreUnavailableError):
        enqueue_task(context, QUEUE, TASK, spec.id, owner=spec.owner, weight=spec.limits.weight)
    return is_new
