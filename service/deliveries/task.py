"""Delivers results in the background of the API processes, whichever has time.

The job's record says how far a delivery is, and `dv:deliveries` which are not over: a message that is lost is
put again, one that comes twice sends the same file again, and what has ended is told of under the same id.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import structlog
from starlette.concurrency import run_in_threadpool

from jobs.errors import JobNotFoundError, ObjectNotFoundError, StorageError
from jobs.messages import retry_delay
from jobs.records import Job
from jobs.transfers import DeliveryStatus, ResultDelivery, public_address
from service.context import ServiceContext
from service.deliveries.sending import TargetFailedError, send_result
from service.deliveries.targets import TargetRefusedError
from service.errors import QuotaError
from service.repeating import leading
from service.tasks import LaterError, TaskKind, enqueue_task, running_tasks
from service.webhooks.telling import tell_of_job

_log = structlog.get_logger(__name__)
QUEUE, TASK = "deliveries", "deliver_result"
# By one process. A customer of slow targets leaves room for others.
_AT_ONCE, _AT_ONCE_OF_OWNER = 8, 4
_TURN, _LATER = timedelta(seconds=2), timedelta(seconds=15)
# 2 s, 8 s, 32 s, ... 1 h: in about six hours.
_FIRST_DELAY, _FACTOR, _LONGEST_DELAY = timedelta(seconds=2), 4, timedelta(hours=1)
MAX_ATTEMPTS = 12
_PERIOD_SECONDS, _PAGE, _LOOK_AGAIN = 0.5, 100, timedelta(minutes=1)
_EVENTS = {DeliveryStatus.DELIVERED: "job.delivered", DeliveryStatus.FAILED: "job.undelivered"}


@asynccontextmanager
async def delivering(context: ServiceContext) -> AsyncIterator[None]:
    """Delivers while the block runs."""
    async with (
        running_tasks(context, [TaskKind(QUEUE, TASK, deliver_result, _AT_ONCE)]),
        leading(
            context.client,
            "deliveries.enqueue",
            lambda: run_in_threadpool(enqueue_due, context),
            seconds=_PERIOD_SECONDS,
        ),
    ):
        yield


def enqueue_due(context: ServiceContext) -> int:
    """Puts messages for deliveries that have none: they were just asked for, or their messages were lost.
    Blocking; harmless to repeat.

    Returns:
        How many were looked at.
    """
    due = context.store.due_deliveries(limit=_PAGE, again_after=_LOOK_AGAIN)
    if due:
        known = set(context.queue.messages.ids(QUEUE))
        for job in context.store.get_many([job_id for job_id in due if job_id not in known]):
            enqueue_task(context, QUEUE, TASK, job.id, owner=job.spec.owner, weight=job.spec.weight)
    return len(due)


async def deliver_result(context: ServiceContext, job_id: str) -> None:
    """Makes an attempt at a delivery, and tells its customer when it was the last.

    Raises:
        LaterError: If there will be another.
    """
    try:
        job = await run_in_threadpool(context.store.get, job_id)
        if job.delivery is not None and job.delivery.status is DeliveryStatus.PENDING:
            await _attempt(context, job, job.delivery)
            job = await run_in_threadpool(context.store.get, job_id)
            if job.delivery is not None and job.delivery.status is DeliveryStatus.PENDING:
                delay = retry_delay(
                    max(1, job.delivery.attempts), first=_FIRST_DELAY, factor=_FACTOR, longest=_LONGEST_DELAY
                )
                raise LaterError("the target failed", delay=delay * random.uniform(0.75, 1.25))
    except JobNotFoundError:
        return
    if job.delivery is not None and job.delivery.ended_ms is not None:
        # The event keeps its id, so telling of it again is harmless.
        await tell_of_job(context, job, _EVENTS[job.delivery.status], at_ms=job.delivery.ended_ms)
    await run_in_threadpool(context.store.close_delivery, job_id)


async def _attempt(context: ServiceContext, job: Job, delivery: ResultDelivery) -> None:
    """Makes an attempt and notes it.

    Raises:
        LaterError: If none could be made.
    """
    assert job.output is not None
    status, code, message = DeliveryStatus.DELIVERED, "", ""
    try:
        with context.in_flight.hold("deliveries", job.spec.owner, _AT_ONCE_OF_OWNER):
            await send_result(context, job, job.output, delivery.url)
    except QuotaError as error:
        raise LaterError("others have their turn", delay=_TURN) from error
    except (TargetFailedError, TargetRefusedError) as error:
        is_passing = isinstance(error, TargetFailedError) and error.is_passing
        is_last = not is_passing or delivery.attempts + 1 >= MAX_ATTEMPTS
        status = DeliveryStatus.FAILED if is_last else DeliveryStatus.PENDING
        code, message = error.problem_code, str(error)
    except ObjectNotFoundError:
        status, code, message = DeliveryStatus.FAILED, "gone", "the result has been removed"
    except StorageError as error:  # ours, not the target's
        raise LaterError(str(error), delay=_LATER) from error
    _log.info(
        "delivery.attempted",
        job_id=job.id,
        target=public_address(delivery.url),
        status=status,
        attempts=delivery.attempts + 1,
        error=message or None,
    )
    note = partial(context.store.note_delivery, job.id, delivery, status, code=code, message=message)
    await run_in_threadpool(note)
