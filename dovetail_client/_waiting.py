"""Waiting for jobs and batches: by events where they come, by asking where they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from dovetail_client._answers import parse, retry_after_seconds
from dovetail_client._api import Api
from dovetail_client._events import FINAL_TYPES, listen
from dovetail_client.errors import DovetailError, WaitTimeoutError
from dovetail_client.models import Batch, Job

POLL_SECONDS = 2.0

# Between events one hears only every 15 s that the service lives, too seldom to end a wait in time.
POLLED_END_SECONDS = 30.0

W = TypeVar("W", Job, Batch)


class Watch(Generic[W]):
    """Asks for a job or batch again and again; an unchanged one costs no body.

    Args:
        timeout_seconds: From now on; None is for ever.
        on_update: Is told what is new.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        model: type[W],
        *,
        timeout_seconds: float | None,
        on_update: Callable[[W], None] | None,
    ) -> None:
        self._api, self._path = api, path
        self._model: type[W] = model
        self._on_update: Callable[[W], None] | None = on_update
        self._timeout_seconds, self._start_seconds = timeout_seconds, api.clock()
        self._pause_seconds = POLL_SECONDS
        self._etag: str | None = None
        self._last: W | None = None

    async def ask(self) -> W:
        """What it is now."""
        headers = {"If-None-Match": self._etag} if self._etag is not None else {}
        answer = await self._api.send("GET", self._path, headers=headers)
        self._pause_seconds = retry_after_seconds(answer.headers) or POLL_SECONDS
        if answer.status_code == 304 and self._last is not None:
            return self._last
        self._etag = answer.headers.get("ETag")
        return self.tell(parse(answer, self._model))

    async def until_final(self, found: W | None = None) -> W:
        """Asks until it is final; first after a pause, if it was found just now.

        Raises:
            WaitTimeoutError: If that takes too long.
        """
        found = found or await self.ask()
        while not found.status.is_final:
            found = await self.ask_later(self.seconds_left(found))
        return found

    async def ask_later(self, seconds_left: float) -> W:
        """What it is after the pause that the service wants, or when the time is over."""
        await self._api.sleep(min(self._pause_seconds, seconds_left))
        return await self.ask()

    def tell(self, found: W) -> W:
        """Passes news on."""
        if found != self._last and self._on_update is not None:
            self._on_update(found)
        self._last = found
        return found

    def seconds_left(self, last: W) -> float:
        """Time left, infinite without a limit.

        Raises:
            WaitTimeoutError: If none is left.
        """
        if self._timeout_seconds is None:
            return float("inf")
        left = self._timeout_seconds - (self._api.clock() - self._start_seconds)
        if left <= 0:
            raise WaitTimeoutError(last, self._timeout_seconds)
        return left


async def wait_for_job(api: Api, job_id: str, watch: Watch[Job]) -> Job:
    """Waits until a job is final, listening as long as that works.

    Raises:
        WaitTimeoutError: If that takes too long.
    """
    job = await watch.ask()
    signs = listen(api, job_id)
    try:
        while not job.status.is_final and watch.seconds_left(job) > POLLED_END_SECONDS:
            try:
                event = await anext(signs)
            except DovetailError:
                break  # asking tells whether it is the service or only its events
            if event is None:
                continue
            if event.job is not None and not event.job.status.is_final:
                job = watch.tell(event.job)
            if event.type in FINAL_TYPES:
                # A job that failed and was retried has a final event that is not its last.
                await signs.aclose()
                job = await watch.ask()
                if not job.status.is_final:
                    job = await watch.ask_later(watch.seconds_left(job))
                signs = listen(api, job_id, last_event_id=event.id)
    finally:
        await signs.aclose()
    return await watch.until_final(job)
