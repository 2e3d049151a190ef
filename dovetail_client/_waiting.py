"""Waiting for jobs and batches: by events where they come, by asking where they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from dovetail_client._answers import parse, retry_after_seconds
from dovetail_client._calls import Call
from dovetail_client._events import Listener
from dovetail_client._http import Http
from dovetail_client._words import JobStatus
from dovetail_client.errors import DovetailError, JobCancelledError, JobFailedError, WaitTimeoutError
from dovetail_client.models import Batch, Job

POLL_SECONDS = 2.0

# Between events one hears only every 15 s that the service lives, too seldom to end a wait in time.
POLLED_END_SECONDS = 30.0

W = TypeVar("W", Job, Batch)


class Deadline:
    """The end of one's patience.

    Args:
        timeout_seconds: From now on; None is never.
        clock: Seconds that only grow.
    """

    def __init__(self, timeout_seconds: float | None, clock: Callable[[], float]) -> None:
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._start = clock()

    def seconds_left(self, last: Job | Batch) -> float:
        """Time left, infinite without a limit.

        Raises:
            WaitTimeoutError: If none is left.
        """
        if self._timeout_seconds is None:
            return float("inf")
        left = self._timeout_seconds - (self._clock() - self._start)
        if left <= 0:
            raise WaitTimeoutError(last, self._timeout_seconds)
        return left


class Poller(Generic[W]):
    """Asks for a job or batch; an unchanged one costs no body.

    Attributes:
        pause_seconds: What the service wants between two questions.
    """

    def __init__(self, http: Http, path: str, model: type[W], on_update: Callable[[W], None] | None) -> None:
        self.pause_seconds = POLL_SECONDS
        self._http = http
        self._path = path
        self._model: type[W] = model
        self._on_update: Callable[[W], None] | None = on_update
        self._etag: str | None = None
        self._last: W | None = None

    async def ask(self) -> W:
        """What it is now."""
        headers = {"If-None-Match": self._etag} if self._etag is not None else {}
        answer = await self._http.send(Call("GET", self._path, headers=headers))
        self.pause_seconds = retry_after_seconds(answer.headers) or POLL_SECONDS
        if answer.status == 304 and self._last is not None:
            return self._last
        found = parse(answer, self._model)
        self._etag = answer.headers.get("ETag")
        self.tell(found)
        return found

    def tell(self, found: W) -> None:
        """Passes news on."""
        if found != self._last and self._on_update is not None:
            self._on_update(found)
        self._last = found


async def wait_for_job(
    http: Http,
    job_id: str,
    *,
    timeout: float | None,
    on_update: Callable[[Job], None] | None,
    use_events: bool,
) -> Job:
    """Waits until a job is final; see `Dovetail.wait`."""
    deadline = Deadline(timeout, http.clock)
    poller = Poller(http, f"/v1/jobs/{job_id}", Job, on_update)
    job = await poller.ask()
    listener = Listener(http, job_id) if use_events else None
    try:
        while not job.status.is_final:
            left = deadline.seconds_left(job)
            if listener is None or left <= POLLED_END_SECONDS:
                await http.sleep(min(poller.pause_seconds, left))
                job = await poller.ask()
                continue
            try:
                events = await listener.receive()
            except DovetailError:
                await listener.close()
                listener = None  # asking tells whether it is the service or only its events
                continue
            for event in events:
                if event.job is not None and not event.job.status.is_final:
                    job = event.job
                    poller.tell(job)
            if listener.is_over:
                # A job that failed and was retried has a final event that is not its last.
                job = await poller.ask()
                await http.sleep(0 if job.status.is_final else poller.pause_seconds)
                listener = Listener(http, job_id, last_event_id=listener.last_event_id)
    finally:
        if listener is not None:
            await listener.close()
    return _require_completed(job)


async def wait_for_batch(
    http: Http, batch_id: str, *, timeout: float | None, on_update: Callable[[Batch], None] | None
) -> Batch:
    """Waits until every job of a batch is final."""
    deadline = Deadline(timeout, http.clock)
    poller = Poller(http, f"/v1/batches/{batch_id}", Batch, on_update)
    batch = await poller.ask()
    while not batch.status.is_final:
        await http.sleep(min(poller.pause_seconds, deadline.seconds_left(batch)))
        batch = await poller.ask()
    return batch


def _require_completed(job: Job) -> Job:
    if job.status is JobStatus.FAILED:
        raise JobFailedError(job)
    if job.status is JobStatus.CANCELLED:
        raise JobCancelledError(job)
    return job
