"""From a file or a finished upload to a queued job."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

import structlog
from starlette.concurrency import run_in_threadpool

from jobs.errors import JobExistsError, QueueFullError, QuotaExceededError, StoreUnavailableError
from jobs.objects import input_key
from jobs.queue import FETCH, PLAN
from jobs.records import Job, JobState, Stage
from jobs.specs import InputInfo, JobSpec, WebhookTarget
from jobs.transfers import FetchedSource
from media import MediaError, MediaInfo
from media.limits import InputLimits
from media.picture_files import kind_of_still
from media.sandbox import sandboxed_probe
from service.auth import Caller
from service.context import ServiceContext
from service.deliveries.targets import target_of_job
from service.errors import from_media_error
from service.filenames import clean_filename
from service.jobs.checks import check_found, decide_container, find_model
from service.jobs.submissions import JobForm
from service.quotas import check_prefix, check_priority
from service.webhooks.targets import check_target

_log = structlog.get_logger(__name__)


async def probe_file(context: ServiceContext, path: Path, filename: str | None, *, owner: str) -> InputInfo:
    """Looks into a file that nobody has vouched for, in a sandbox.

    Args:
        context: Of the process.
        path: The file.
        filename: What the customer calls it.
        owner: Whose turn it takes.

    Raises:
        UnsupportedMediaError: If it is not a video that can be read.
        InvalidRequestError: If it is larger or longer than accepted.
    """
    settings = context.settings
    limits = InputLimits(max_pixels=settings.max_input_pixels, max_seconds=settings.max_input_seconds)
    try:
        info = await context.lanes.probing.run(owner, sandboxed_probe, path, limits=limits, is_quick=True)
    except MediaError as error:
        name = clean_filename(filename)
        message = str(error).replace(f"'{path.name}'", f"'{name}'")
        raise from_media_error(error.code, message) from error
    return describe_input(info, filename)


def describe_input(info: MediaInfo, filename: str | None) -> InputInfo:
    """What is kept of a probe."""
    video = info.video
    duration = video.duration_seconds or info.duration_seconds
    return InputInfo(
        filename=clean_filename(filename),
        size_bytes=info.size_bytes,
        format_name=info.format_name,
        codec=video.codec,
        width=video.width,
        height=video.height,
        rotation=video.rotation,
        frame_rate=float(video.rate),
        duration_seconds=None if duration is None else float(duration),
        num_frames=video.num_frames_estimate,
        has_audio=bool(info.audio),
        picture=kind_of_still(info),
        warnings=info.warnings,
    )


async def submit_file(
    context: ServiceContext, caller: Caller, path: Path, form: JobForm, *, filename: str | None, job_id: str
) -> Job:
    """Makes a job of a file, which is moved into the storage.

    Args:
        context: Of the process.
        caller: Who asks.
        path: The file.
        form: What to make of it.
        filename: What the customer calls it.
        job_id: Of the job. If an earlier attempt at the same request has made it, that is the job.

    Raises:
        ServiceError: If the file, the options or the caller's quota do not allow it. Nothing is left then.
        JobsError: If the queue is full, or store or storage do not answer. After the last two there may be a
            job: its id is kept with the request's key.
    """
    found = await probe_file(context, path, form.filename or filename, owner=caller.owner)
    key = input_key(job_id, token_hex(4))
    spec = await run_in_threadpool(make_spec, context, caller, form, found, key=key, job_id=job_id)
    await context.lanes.storage.run(caller.owner, context.storage.put_file, key, path, is_movable=True)
    try:
        return await run_in_threadpool(enqueue_job, context, caller, spec)
    except (QueueFullError, QuotaExceededError, JobExistsError) as error:
        # Only these say that no job reads the file. After any other error one may: the sweeper removes what
        # no record names.
        await run_in_threadpool(context.storage.delete, key)
        if isinstance(error, JobExistsError):
            return await context.reader.get(job_id, owner=caller.owner)
        raise


def submit_source(
    context: ServiceContext,
    caller: Caller,
    form: JobForm,
    found: InputInfo | FetchedSource,
    *,
    key: str,
    job_id: str,
) -> Job:
    """Makes a job of an object in the storage, or of one that is still to be fetched. Blocking.

    Raises:
        ServiceError: If the options or the caller's quota do not allow it.
        JobsError: If the queue is full, or the store does not answer.
    """
    if form.filename is not None:
        found = found.model_copy(update={"filename": clean_filename(form.filename)})
    spec = make_spec(context, caller, form, found, key=key, job_id=job_id)
    try:
        return enqueue_job(context, caller, spec)
    except JobExistsError:
        return context.store.get(job_id, owner=caller.owner)


def make_spec(
    context: ServiceContext,
    caller: Caller,
    form: JobForm,
    found: InputInfo | FetchedSource,
    *,
    key: str,
    job_id: str,
    batch_id: str | None = None,
) -> JobSpec:
    """The record of a job that may be made, once it is checked. Blocking.

    Args:
        context: Of the process.
        caller: Who asks.
        form: What to make of the source.
        found: What was found in the source, or where it is to be fetched from.
        key: Of the source in the storage, now or later.
        job_id: Of the job.
        batch_id: Of its batch.

    Raises:
        ServiceError: If the options or the caller's quota do not allow it.
    """
    check_priority(caller, form.priority)
    if form.deliver_to:
        check_prefix(caller, form.deliver_to)
    options, model = form.options, find_model(context, form.options.model)
    if form.webhook is not None:
        check_target(form.webhook.url, allow_private=context.settings.allow_private_targets)
    if isinstance(found, InputInfo):
        options, found = decide_container(options, found)
        check_found(options, found, model, max_output_pixels=caller.limits.max_output_pixels)
    return JobSpec(
        id=job_id,
        owner=caller.owner,
        created_at=datetime.now(UTC),
        input_key=key,
        input=found if isinstance(found, InputInfo) else None,
        source=found if isinstance(found, FetchedSource) else None,
        options=options.model_copy(update={"model": model.name}),
        priority=form.priority,
        labels=form.labels,
        metadata=form.metadata,
        webhook=None
        if form.webhook is None
        else WebhookTarget(url=form.webhook.url, events=tuple(form.webhook.events)),
        deliver_to=form.deliver_to
        and target_of_job(context.settings, form.deliver_to, job_id=job_id, options=options),
        batch_id=batch_id,
        weight=caller.limits.weight,
        max_output_pixels=caller.limits.max_output_pixels,
        max_stored_bytes=caller.limits.max_stored_bytes,
    )


def enqueue_job(context: ServiceContext, caller: Caller, spec: JobSpec) -> Job:
    """Writes the record and asks for the first task. Blocking.

    Raises:
        QueueFullError: If as many jobs wait as the queue takes. There is no job then.
        QuotaExceededError: If the caller has, or stores, as much as they may. There is no job then.
        JobExistsError: If an earlier attempt has made the job.
        StoreUnavailableError: If the store does not answer. There may be a job then.
    """
    job = context.store.create(
        spec,
        max_waiting=context.settings.max_waiting_jobs,
        max_of_owner=caller.limits.max_unfinished_jobs,
    )
    enqueue_first(context, job)
    return job


def retry_job(context: ServiceContext, caller: Caller, job_id: str) -> Job:
    """Queues a failed or cancelled job again. Blocking; harmless to repeat.

    Raises:
        JobNotFoundError: If there is none.
        QueueFullError: If as many jobs wait as the queue takes.
        QuotaExceededError: If the caller has, or stores, as much as they may.
        JobStateError: If it is completed, or about to be cancelled.
    """
    job = context.store.retry(
        job_id,
        max_waiting=context.settings.max_waiting_jobs,
        max_of_owner=caller.limits.max_unfinished_jobs,
        max_stored_bytes=caller.limits.max_stored_bytes,
    )
    if job.state is JobState.QUEUED:
        enqueue_first(context, job)
    return job


def enqueue_first(context: ServiceContext, job: Job) -> None:
    """Asks for a queued job's first task. Where the queue is away the reconciler does it later."""
    try:
        task = FETCH if job.stage is Stage.FETCHING else PLAN
        context.queue.enqueue(job.spec, task, is_decided=job.plan is not None)
    except StoreUnavailableError as error:
        _log.warning("job.not_enqueued", job_id=job.id, error=str(error))
