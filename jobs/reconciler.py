"""Finds jobs that stand still because a message was lost, and enqueues what they need.

Messages get lost when the process that should enqueue one dies between two steps, or when Redis forgets its
last second in a crash. Nothing else would ever touch such a job again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog

from jobs.errors import JobNotFoundError, JobStateError
from jobs.queue import FETCH, PLAN, JobQueue, TaskId
from jobs.records import JobState
from jobs.store import JobStore

_log: Any = structlog.get_logger(__name__)

RECONCILE_INTERVAL = timedelta(seconds=15)


def reconcile_interval(heartbeat_timeout: timedelta) -> timedelta:
    """Between two looks. Where workers are soon taken for dead, a lost message should not wait longer."""
    return max(min(RECONCILE_INTERVAL, heartbeat_timeout / 4), timedelta(milliseconds=500))


def reconcile_once(
    store: JobStore, queue: JobQueue, suspects: set[TaskId], *, cancelled_ttl: timedelta
) -> set[TaskId]:
    """Looks at all unfinished jobs once.

    Between acknowledging one message and enqueueing the next a healthy job may have none, so a task is
    enqueued when it was missing at the last look too.

    Args:
        store: Job records.
        queue: Messages.
        suspects: What the last look gave, some seconds ago.
        cancelled_ttl: How long cancelled jobs are kept.

    Returns:
        Tasks that are missing and were not enqueued: suspects for the next look.

    Raises:
        StoreUnavailableError: If store or queue do not answer.
    """
    ids = store.active_ids()
    known = queue.tasks()
    # A job whose first task waits is healthy; there may be a hundred thousand of them.
    to_be_begun = {task.job_id for task in known if task.task in (FETCH, PLAN)}
    missing: set[TaskId] = set()
    for job_id in ids:
        if job_id not in to_be_begun:
            missing |= _missing_tasks(store, job_id, known, cancelled_ttl)
    for task in missing & suspects:
        _enqueue(store, queue, task)
    return missing - suspects


def _missing_tasks(store: JobStore, job_id: str, known: set[TaskId], cancelled_ttl: timedelta) -> set[TaskId]:
    awaited = store.awaited_tasks(job_id)
    if not awaited:
        _finish_cancelling(store, job_id, cancelled_ttl)
        return set()
    wanted = {TaskId(job_id, task) for task in awaited} - known
    if wanted:
        wanted -= {TaskId(job_id, task) for task in store.leased_tasks(job_id)}
    return wanted


def _finish_cancelling(store: JobStore, job_id: str, cancelled_ttl: timedelta) -> None:
    """Ends a job that is being cancelled when its attempts have died: nobody else would say so."""
    try:
        if store.get(job_id).state is JobState.CANCELLING and not store.leased_tasks(job_id):
            store.cancel(job_id, ttl=cancelled_ttl)
            _log.info("reconciler.cancelled", job_id=job_id)
    except (JobNotFoundError, JobStateError):
        return  # ended or deleted meanwhile


def _enqueue(store: JobStore, queue: JobQueue, task: TaskId) -> None:
    try:
        job = store.get(task.job_id)
    except JobNotFoundError:
        return
    queue.enqueue(job.spec, task.task, is_decided=job.plan is not None)
    _log.warning("reconciler.enqueued", job_id=task.job_id, task=task.task)
