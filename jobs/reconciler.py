"""Finds jobs that stand still because a message was lost, and enqueues what they need.

Messages get lost when the process that should enqueue one dies between two steps, or when Redis forgets its
last second in a crash. Nothing else would ever touch such a job again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import redis
import structlog

from jobs.errors import JobNotFoundError, JobStateError
from jobs.queue import FETCH, PLAN, JobQueue, TaskId
from jobs.records import JobState
from jobs.store import JobStore

_log: Any = structlog.get_logger(__name__)

RECONCILE_INTERVAL = timedelta(seconds=15)
_LOCK = "dv:reconciler"


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
        spec = store.get(task.job_id).spec
    except JobNotFoundError:
        return
    queue.enqueue(spec, task.task)
    _log.warning("reconciler.enqueued", job_id=task.job_id, task=task.task)


class Leader:
    """Does something again and again, in one of all the processes that would: whoever holds a lock in Redis.

    Args:
        client: Of the store's database.
        name: Of the lock.
        interval: Between two times.
        action: What to do; errors are logged, and it is tried again next time.
    """

    def __init__(
        self, client: redis.Redis, name: str, interval: timedelta, action: Callable[[], object]
    ) -> None:
        self._interval = interval.total_seconds()
        # Held over several intervals: two leaders in turn would each see every other state only.
        self._lock: Any = client.lock(
            name, timeout=max(1.0, 4 * self._interval), blocking=False, thread_local=False
        )
        self._name, self._action = name, action
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"dovetail-{name}", daemon=True)

    def start(self) -> None:
        """Begins, in a thread of its own."""
        self._thread.start()

    def stop(self, *, timeout: float = 1.0) -> None:
        """Ends; another process can take over at once, or, where Redis is away, when the lock expires."""
        self._stopping.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            try:
                if self._leads():
                    self._action()
            except Exception:
                # Whatever it is: a thread that ended would be missed by nobody until jobs stand still.
                _log.warning("leader.failed", name=self._name, exc_info=True)
        try:
            if self._lock.owned():
                self._lock.release()
        except redis.RedisError:
            return  # it expires by itself

    def _leads(self) -> bool:
        try:
            if self._lock.owned():
                return bool(self._lock.reacquire())
        except redis.exceptions.LockError:
            _log.info("leader.lost", name=self._name)
        return bool(self._lock.acquire())


class Reconciler(Leader):
    """Reconciles every few seconds, in one process of the installation.

    Args:
        store: Job records.
        queue: Messages.
        cancelled_ttl: How long cancelled jobs are kept.
        interval: Between two looks.
    """

    def __init__(
        self,
        store: JobStore,
        queue: JobQueue,
        *,
        cancelled_ttl: timedelta,
        interval: timedelta = RECONCILE_INTERVAL,
    ) -> None:
        super().__init__(store.client, _LOCK, interval, self._look)
        self._store, self._queue, self._cancelled_ttl = store, queue, cancelled_ttl
        self._suspects: set[TaskId] = set()

    def _look(self) -> None:
        self._suspects = reconcile_once(
            self._store, self._queue, self._suspects, cancelled_ttl=self._cancelled_ttl
        )
