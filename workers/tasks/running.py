"""Running one task: take its lease, work, and see to what comes next, whatever happens."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars

from jobs.errors import JobNotFoundError, LostLeaseError
from jobs.queue import JOIN, PLAN, SEGMENT, TaskId, kind_to_take
from jobs.specs import JobSpec
from workers.tasks.attempts import Attempt
from workers.tasks.context import WorkerContext
from workers.tasks.failures import FULL_WARNING, crash_error, judge
from workers.tasks.stopping import DrainedError

_log: Any = structlog.get_logger(__name__)

Work = Callable[[Attempt], None]
"""Does a task. Returns when it is done, or raises."""


def run_task(context: WorkerContext, task: TaskId, work: Work) -> None:
    """Runs a task that came from the queue; a task that may not run now, or not here, is enqueued again or
    dropped.

    Raises:
        StorageError: If the storage does not answer, like the next two: the queue tries again later.
        StoreUnavailableError: If the store does not answer.
        redis.RedisError: If the store fails.
    """
    with bound_contextvars(job_id=task.job_id, task=task.task):
        try:
            job = context.store.get(task.job_id)
        except JobNotFoundError:
            _log.info("task.dropped", reason="gone")
            return
        is_decided = job.plan is not None
        kind = kind_to_take(task.task, is_decided=is_decided)
        if kind not in context.settings.only:
            # Whoever put it did not know how far the job is, or which kinds of workers there are.
            context.queue.enqueue(job.spec, task.task, is_decided=is_decided)
            _log.info("task.passed_on", kind=kind)
            return
        token = secrets.token_hex(16)
        beginning = context.store.begin(
            task.job_id,
            task.task,
            token,
            ttl=context.settings.lease_ttl,
            max_attempts=context.settings.max_attempts,
            worker=context.worker_id,
            num_workers=context.num_workers(kind),
        )
        match beginning.outcome:
            case "ok":
                with bound_contextvars(attempt=beginning.number):
                    _run_attempt(Attempt(context, task, token=token, number=beginning.number, job=job), work)
            case "busy" | "elsewhere":
                delay = timedelta(milliseconds=beginning.number)
                context.queue.enqueue(job.spec, task.task, is_decided=is_decided, delay=delay)
                _log.info("task.put_off", reason=beginning.outcome, milliseconds=beginning.number)
            case "exhausted":
                error = crash_error(task.task, beginning.number)
                _log.error("job.failed", code=error.code, message=error.message)
                context.store.fail(task.job_id, error, ttl=context.settings.failed_ttl)
            case "done":
                enqueue_next(context, job.spec)
            case "gone" | "stopped":
                _log.info("task.dropped", reason=beginning.outcome)


def enqueue_next(context: WorkerContext, spec: JobSpec) -> None:
    """Enqueues what the job needs next."""
    steps = context.store.advance(spec.id, window=context.window)
    for index in steps.segments:
        context.queue.enqueue(spec, f"{SEGMENT}:{index}")
    if steps.is_planning_due:
        context.queue.enqueue(spec, PLAN, is_decided=True)
    if steps.is_join_due:
        context.queue.enqueue(spec, JOIN)


def _run_attempt(attempt: Attempt, work: Work) -> None:
    context = attempt.context
    _log.info("attempt.started")
    start = time.monotonic()
    context.task = attempt.task
    outcome = "rise"
    try:
        try:
            with context.keeper.keeping(attempt.lease), attempt:
                work(attempt)
        except Exception as error:
            outcome = _end_failed(attempt, error)
        else:
            attempt.end("finished")
            enqueue_next(context, attempt.job.spec)
            _log.info("attempt.finished")
            outcome = "finished"
    finally:
        context.task = None
        context.outcomes.add(attempt.task.task, outcome, time.monotonic() - start)


def _end_failed(attempt: Attempt, error: Exception) -> str:
    """Gives the lease back and sees to what comes next.

    Returns:
        What was done, for the count of outcomes.
    """
    if attempt.is_lost or isinstance(error, LostLeaseError):
        # Whatever went wrong: nobody waits for it any more. Gives a cancelled job its end.
        _log.info("attempt.lost", reason=str(error))
        attempt.end("drained")
        return "lost"
    if isinstance(error, DrainedError):
        _log.info("attempt.drained")
        attempt.give_back()
        return "drained"
    context = attempt.context
    max_attempts = context.settings.max_attempts
    verdict = judge(error, task=attempt.task.task, number=attempt.number, max_attempts=max_attempts)
    _log.error("attempt.failed", action=verdict.action, code=verdict.error.code, exc_info=error)
    match verdict.action:
        case "fail":
            if context.store.fail(
                attempt.job.id,
                verdict.error,
                ttl=context.settings.failed_ttl,
                task=attempt.task.task,
                token=attempt.token,
            ):
                _log.warning("job.planned_anew", reason=verdict.error.message)
                context.queue.enqueue(attempt.job.spec, PLAN)
            attempt.end("failed")
        case "retry":
            attempt.end("failed")
            attempt.put_again(delay=verdict.delay)
        case "wait":
            with suppress(LostLeaseError):
                attempt.add_warnings([FULL_WARNING])
                attempt.end("drained")
                attempt.put_again(delay=verdict.delay)
        case "rise":
            attempt.end("drained")
            raise error
    return verdict.action
