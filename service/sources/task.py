"""Fetches the sources of jobs, in the background of the API processes.

The API does it and not a worker: it knows which addresses are allowed, its disk is where uploads arrive
anyway, no GPU waits for a slow origin, and without any worker the source is there when the first one
starts. A message and a lease that is renewed make it survive any kill: whichever process gets the message
next goes on with the file where it has it (in `data_dir`), and begins anew where another one has it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import structlog
from starlette.concurrency import run_in_threadpool

from jobs.errors import JobNotFoundError, JobsError, LostLeaseError, StoreUnavailableError
from jobs.queue import FETCH, FETCH_QUEUE, task_of
from jobs.records import Job, JobError
from jobs.specs import JobSpec
from jobs.transfers import FetchedSource
from service.context import ServiceContext
from service.deliveries.targets import object_of_job
from service.errors import ServiceError, from_jobs_error
from service.jobs.checks import check_found, decide_container, find_model
from service.jobs.service import enqueue_first, probe_file
from service.sources.download import remove_download
from service.sources.fetching import fetch_into
from service.tasks import LaterError, TaskKind

_log: Any = structlog.get_logger(__name__)

_NUM_TRIES = 5
_LATER = timedelta(seconds=15)
# Also how soon a cancelled job is noticed.
_MAX_RENEWAL_SECONDS = 1.0
# By one process. A customer of slow origins leaves room for others.
_AT_ONCE, _AT_ONCE_OF_OWNER = 16, 8
_TURN = timedelta(seconds=2)


def make_fetching() -> TaskKind:
    """The task, for one process."""
    running: Counter[str] = Counter()

    async def run(context: ServiceContext, message_id: str) -> None:
        job_id = task_of(message_id).job_id
        try:
            job = await run_in_threadpool(context.store.get, job_id)
        except JobNotFoundError:
            await run_in_threadpool(remove_download, _path_of(context, job_id))
            return
        owner = job.spec.owner
        if running[owner] >= _AT_ONCE_OF_OWNER:
            raise LaterError("others have their turn", delay=_TURN)
        running[owner] += 1
        try:
            await fetch_source(context, job)
        finally:
            running[owner] -= 1

    return TaskKind(FETCH_QUEUE, FETCH, run, num_at_once=_AT_ONCE)


async def fetch_source(context: ServiceContext, job: Job) -> None:
    """Fetches the source of a job, looks into it, stores it, and asks for the job to be planned.

    Raises:
        LaterError: If another process is at it, or a part of the installation does not answer.
    """
    token = token_hex(16)
    beginning = await run_in_threadpool(
        partial(
            context.store.begin,
            job.id,
            FETCH,
            token,
            ttl=context.settings.lease_ttl,
            max_attempts=context.settings.max_attempts,
            worker=_worker_name(),
            num_workers=1,
        )
    )
    match beginning.outcome:
        case "ok":
            await _attempt(context, job, token)
        case "busy":
            raise LaterError("another process fetches it", delay=timedelta(milliseconds=beginning.number))
        case "stopped" | "gone":
            await run_in_threadpool(_remove_unless_wanted, context, job.id, _path_of(context, job.id))
        case "exhausted":
            message = f"the processes that fetched the source died, {beginning.number} times"
            await _fail(context, job, JobError(code="worker_crashed", message=message))


async def _attempt(context: ServiceContext, job: Job, token: str) -> None:
    path = _path_of(context, job.id)
    try:
        spec = await _leased(context, job, token, _fetch(context, job, path))
        await run_in_threadpool(context.store.set_input, spec, token)
    except LostLeaseError as error:
        _log.info("fetch.lost", job_id=job.id, reason=str(error))
        await _end(context, job, token)
        await run_in_threadpool(_remove_unless_wanted, context, job.id, path)
    except (ServiceError, JobsError) as error:
        problem = from_jobs_error(error) if isinstance(error, JobsError) else error
        _log.warning("fetch.failed", job_id=job.id, code=problem.problem_code, error=str(error))
        if problem.status >= 500:  # of ours, not the origin's
            await _end(context, job, token)
            raise LaterError(str(error), delay=_LATER) from error
        await _fail(context, job, JobError(code=problem.problem_code, message=str(problem)))
        await _end(context, job, token)
        await run_in_threadpool(remove_download, path)
    except asyncio.CancelledError:
        # The process stops; another one goes on with the file.
        await _end(context, job, token)
        raise
    else:
        await run_in_threadpool(remove_download, path)
        await run_in_threadpool(enqueue_first, context, await run_in_threadpool(context.store.get, job.id))


async def _leased(
    context: ServiceContext, job: Job, token: str, work: Coroutine[Any, Any, JobSpec]
) -> JobSpec:
    """What a coroutine gives, while the task's lease is kept.

    Raises:
        LostLeaseError: If another attempt has taken over, or the job is cancelled or gone.
    """
    task: asyncio.Task[JobSpec] = asyncio.create_task(work)
    ttl = context.settings.lease_ttl
    try:
        while not task.done():
            await asyncio.wait([task], timeout=min(ttl.total_seconds() / 3, _MAX_RENEWAL_SECONDS))
            with suppress(StoreUnavailableError):  # until another attempt takes over nothing is lost
                await run_in_threadpool(partial(context.store.renew, job.id, FETCH, token, ttl=ttl))
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _fetch(context: ServiceContext, job: Job, path: Path) -> JobSpec:
    source, key = job.spec.source, job.spec.input_key
    assert source is not None
    if await run_in_threadpool(context.storage.exists, key):
        # An attempt before this one was killed after it had stored the source.
        async with context.readable_object(job.spec.owner, key) as stored:
            return await _checked(context, job, source, stored)
    await fetch_into(context, source, path, num_tries=_NUM_TRIES)
    spec = await _checked(context, job, source, path)
    await context.lanes.storage.run(job.spec.owner, context.storage.put_file, key, path, is_movable=True)
    return spec


async def _checked(context: ServiceContext, job: Job, source: FetchedSource, path: Path) -> JobSpec:
    """The job's with its input."""
    spec = job.spec
    found = await probe_file(context, path, source.filename, owner=spec.owner)
    model = await run_in_threadpool(find_model, context, spec.options.model)
    options, found = decide_container(spec.options, found)
    check_found(options, found, model, max_output_pixels=source.max_output_pixels)
    deliver_to = spec.deliver_to and object_of_job(spec.deliver_to, job_id=spec.id, options=options)
    return spec.model_copy(update={"input": found, "options": options, "deliver_to": deliver_to})


async def _fail(context: ServiceContext, job: Job, error: JobError) -> None:
    await run_in_threadpool(partial(context.store.fail, job.id, error, ttl=context.settings.failed_ttl))


async def _end(context: ServiceContext, job: Job, token: str) -> None:
    """Gives the lease back, which ends a job that is being cancelled; where the store is away it expires."""
    with suppress(StoreUnavailableError):
        await run_in_threadpool(
            partial(
                context.store.end,
                job.id,
                FETCH,
                token,
                "drained",
                worker=_worker_name(),
                cancelled_ttl=context.settings.failed_ttl,
            )
        )


def sweep_fetches(context: ServiceContext) -> int:
    """Removes what this process has of sources that another one has fetched since, or nobody wants. Blocking.

    Returns:
        Of how many sources.
    """
    prefix = _path_of(context, "").name
    paths = [path for path in context.incoming_dir.glob(f"{prefix}*") if path.suffix == ""]
    ids = [path.name.removeprefix(prefix) for path in paths]
    wanted = {
        job.id for job in context.store.get_many(ids) if job.spec.input is None and not job.state.is_final
    }
    unwanted = [path for path, job_id in zip(paths, ids, strict=True) if job_id not in wanted]
    for path in unwanted:
        remove_download(path)
    return len(unwanted)


def _remove_unless_wanted(context: ServiceContext, job_id: str, path: Path) -> None:
    """Removes what was fetched of a job that has ended; of others another attempt goes on with it."""
    try:
        is_over = context.store.get(job_id).state.is_final
    except JobNotFoundError:
        is_over = True
    if is_over:
        remove_download(path)


def _path_of(context: ServiceContext, job_id: str) -> Path:
    return context.incoming_dir / f"fetch-{job_id}"


def _worker_name() -> str:
    return f"api-{socket.gethostname()}-{os.getpid()}"
