"""One attempt at a task: it holds the task's lease, renews it beside the work, and notices when to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import structlog

from jobs.errors import LostLeaseError
from jobs.queue import TaskId
from jobs.records import Job
from jobs.store import EndReason
from media import SandboxError
from media.sandbox import Cancellation
from workers.held import HeldLease
from workers.tasks.context import WorkerContext
from workers.tasks.failures import without_paths
from workers.tasks.stopping import DrainedError

_log: Any = structlog.get_logger(__name__)

# Also how soon a cancelled job is noticed, and how often customers see progress.
_MAX_RENEWAL_SECONDS = 1.0
# A stopping worker gives up what would take so many times the time it has: estimates are rough.
_MARGIN = 1.5


class Attempt:
    """Keeps a lease alive in a `with` block, in a thread of its own. Thread-safe.

    Args:
        context: Of the worker.
        task: What is attempted.
        token: Under which the lease was taken.
        number: Of this attempt, from 1.
        job: As it was before.

    Attributes:
        context: As given, like task, token, number and job.
        is_given_back: Whether the task is another worker's already, because this one has to stop.
    """

    def __init__(self, context: WorkerContext, task: TaskId, *, token: str, number: int, job: Job) -> None:
        self.context, self.task, self.token, self.number, self.job = context, task, token, number, job
        self.is_given_back = False
        self._num_frames: int | None = None
        self._pace: _Pace | None = None
        self._lost: LostLeaseError | None = None
        self._has_ended, self._woken = False, threading.Event()
        self._on_stop: list[Callable[[], None]] = []
        ttl = context.settings.lease_ttl
        self._interval = min(ttl.total_seconds() / 3, _MAX_RENEWAL_SECONDS)
        self._thread = threading.Thread(target=self._renew, name="dovetail-lease", daemon=True)

    @property
    def is_lost(self) -> bool:
        """Whether another attempt has taken over, or the job has ended or is being cancelled."""
        return self._lost is not None

    @property
    def lease(self) -> HeldLease:
        """What must be kept, whatever happens in this process."""
        settings = self.context.settings
        seconds = settings.lease_ttl.total_seconds()
        return HeldLease(settings.redis_url, seconds, self.task.job_id, self.task.task, self.token)

    def should_stop(self) -> bool:
        """Whether to stop at the next frame."""
        return self.is_lost or self._is_out_of_time()

    def check(self) -> None:
        """Stops the work where it must not go on.

        Raises:
            LostLeaseError: If another attempt has taken over, or the job ended.
            DrainedError: If the worker stops.
        """
        if self._lost is not None:
            raise self._lost
        if self._is_out_of_time():
            raise DrainedError("the worker stops")

    def expect_frames(self, num_frames: int) -> None:
        """Says how many frames this attempt is going to make, from now on."""
        self._pace = _Pace(num_frames)

    def report_frames(self, num_frames: int) -> None:
        """Says how many frames of this attempt are done."""
        self._num_frames = num_frames
        if self._pace is not None:
            self._pace.report(num_frames)

    def add_warnings(self, warnings: Sequence[str]) -> None:
        """Adds to the job's warnings those that are not there yet.

        Raises:
            LostLeaseError: If another attempt has taken over, or the job ended.
        """
        texts = [without_paths(text) for text in warnings]
        if texts:
            self.set_fields(warnings=texts)

    def set_fields(self, **fields: Any) -> None:
        """Notes what this attempt has found out (`JobStore.set_fields`).

        Raises:
            LostLeaseError: If another attempt has taken over, or the job ended.
        """
        self.context.store.set_fields(self.task.job_id, self.task.task, self.token, **fields)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder of this attempt's own, which is removed afterwards."""
        with TemporaryDirectory(prefix="attempt-", dir=self.context.work_dir) as name:
            yield Path(name)

    def on_stop(self, action: Callable[[], None]) -> None:
        """Has something done when the work is to stop, in another thread; perhaps more than once."""
        self._on_stop.append(action)
        if self.should_stop():
            action()

    @contextmanager
    def cancelling(self) -> Iterator[Cancellation]:
        """What ends sandboxed calls in the block when the work is to stop.

        Raises:
            LostLeaseError: If another attempt has taken over, or the job ended.
            DrainedError: If the worker stops.
        """
        cancellation = Cancellation()
        self.on_stop(cancellation.cancel)
        try:
            yield cancellation
        except SandboxError:
            self.check()  # a call that was ended fails like one that died
            raise

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._on_stop.clear()
        self._has_ended = True
        self._woken.set()
        self._thread.join()

    def end(self, reason: EndReason) -> None:
        """Gives the lease back, if it is still held."""
        self.context.store.end(
            self.task.job_id,
            self.task.task,
            self.token,
            reason,
            worker=self.context.worker_id,
            cancelled_ttl=self.context.settings.failed_ttl,
        )

    def give_back(self) -> None:
        """Lets another worker do the task, uncounted. Harmless to repeat."""
        if not self.is_given_back:
            self.end("drained")
            self.put_again()
            self.is_given_back = True

    def put_again(self, *, delay: timedelta = timedelta()) -> None:
        """Asks for the task once more."""
        is_decided = self.job.plan is not None
        self.context.queue.enqueue(self.job.spec, self.task.task, is_decided=is_decided, delay=delay)

    def _is_out_of_time(self) -> bool:
        """Whether the worker stops, and has no time left for this or will not have enough."""
        stopping = self.context.stopping
        if stopping.is_over or self.is_given_back:
            return True
        return self._pace is not None and self._pace.seconds_left() > _MARGIN * stopping.seconds_left

    def _renew(self) -> None:
        with self.context.stopping.waking(self._woken):
            while True:
                # That the worker stops is said at once: it may be killed a moment later.
                self._woken.wait(self._interval)
                self._woken.clear()
                if self._has_ended or self.is_lost or self.is_given_back:
                    return
                try:
                    self._renew_once()
                    self._stop_work()
                except Exception:
                    # Whatever it is, the next renewal may work, and until another attempt takes over nothing
                    # is lost; without this thread it soon would be.
                    _log.warning("lease.not_renewed", exc_info=True)

    def _stop_work(self) -> None:
        """Ends the work where it must not go on. The task is another worker's at once: a chunk may take a
        minute to end here."""
        if self.should_stop():
            for action in list(self._on_stop):
                action()
            if not self.is_lost:
                self.give_back()

    def _renew_once(self) -> None:
        try:
            self.context.store.renew(
                self.task.job_id,
                self.task.task,
                self.token,
                ttl=self.context.settings.lease_ttl,
                num_frames=self._num_frames,
                is_stopping=self.context.stopping.is_draining,
            )
        except LostLeaseError as error:
            self._lost = error


class _Pace:
    """How long an attempt will take, by the frames that it has made."""

    def __init__(self, num_frames: int) -> None:
        self._num_frames = num_frames
        self._start = time.monotonic()
        self._reported = (0, self._start)

    def report(self, num_frames: int) -> None:
        self._reported = (num_frames, time.monotonic())

    def seconds_left(self) -> float:
        """Until the last frame; 0 where no frame tells."""
        done, at = self._reported
        if not done:
            return 0.0
        # From one frame to the next: chunks come at once, and nothing comes between them.
        return (self._num_frames - done) * (at - self._start) / done - (time.monotonic() - at)
