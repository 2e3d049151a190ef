"""The client that awaits: the same methods as `Dovetail`, where their arguments and errors are described.

Those about batches are in `_batch_methods`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, Unpack

import httpx

from dovetail_client import _downloads, _events, _jobs, _uploads, _waiting
from dovetail_client._batch_methods import AsyncBatchMethods
from dovetail_client._drivers import AsyncDriver
from dovetail_client._settings import connection_settings
from dovetail_client._sources import Source, id_of
from dovetail_client._uploads import DEFAULT_CHUNK_SIZE, ProgressFunction
from dovetail_client.models import (
    Estimate,
    Job,
    JobEvent,
    JobStatus,
    Me,
    Model,
    Upload,
)
from dovetail_client.options import JobOptions, SubmitOptions


class AsyncDovetail(AsyncBatchMethods):
    """A Dovetail service, for programs with an event loop. Files are read and written in threads.

    Args, requests and errors are those of `Dovetail`; `sleep` is awaited.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 5,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = connection_settings(base_url, api_key, timeout)
        self._http = httpx.AsyncClient(**settings.http_arguments())
        self._driver = AsyncDriver(self._http, max_retries=max_retries, sleep=sleep)
        self._patience = max_retries
        self._clock = clock

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # Jobs.

    async def submit(
        self,
        source: Source,
        *,
        filename: str | None = None,
        idempotency_key: str | None = None,
        on_progress: ProgressFunction | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Job:
        """Makes a job of a video. Files above 8 MiB go in chunks that survive broken connections."""
        flow = _jobs.submit_source(
            source,
            options,
            patience=self._patience,
            filename=filename,
            idempotency_key=idempotency_key,
            on_progress=on_progress,
        )
        return await self._driver.run(flow)

    async def get(self, job: Job | str) -> Job:
        """A job as it is now."""
        return await self._driver.run(_jobs.get_job(id_of(job)))

    def list(
        self,
        *,
        status: JobStatus | str | Iterable[JobStatus | str] = (),
        labels: Mapping[str, str] | None = None,
        batch_id: str | None = None,
        order: Literal["desc", "asc"] = "desc",
        limit: int | None = None,
    ) -> AsyncIterator[Job]:
        """All jobs that fit, the newest first; asks for more while one iterates."""
        params = _jobs.list_params(status=status, labels=labels or {}, batch_id=batch_id, order=order)
        return self._driver.iterate(_jobs.list_jobs(params, limit=limit))

    async def cancel(self, job: Job | str) -> Job:
        """Stops a job."""
        return await self._driver.run(_jobs.cancel_job(id_of(job)))

    async def retry(self, job: Job | str) -> Job:
        """Lets a failed or cancelled job go on where it ended."""
        return await self._driver.run(_jobs.retry_job(id_of(job)))

    async def delete(self, job: Job | str) -> None:
        """Deletes a job with all its files; cancels it first if need be."""
        await self._driver.run(_jobs.delete_at(f"/v1/jobs/{id_of(job)}"))

    async def wait(
        self,
        job: Job | str,
        *,
        timeout: float | None = None,
        on_update: Callable[[Job], None] | None = None,
        use_events: bool = True,
    ) -> Job:
        """Waits until a job is completed."""
        flow = _waiting.wait_for_job(
            id_of(job),
            timeout=timeout,
            on_update=on_update,
            use_events=use_events,
            clock=self._clock,
            patience=self._patience,
        )
        return await self._driver.run(flow)

    def events(self, job: Job | str, *, last_event_id: str | None = None) -> AsyncIterator[JobEvent]:
        """What happens to a job, as it happens, until a final event; missed events are caught up."""
        flow = _events.job_events(id_of(job), last_event_id=last_event_id, patience=self._patience)
        return self._driver.iterate(flow)

    async def download(
        self, job: Job | str, path: str | os.PathLike[str], *, on_progress: ProgressFunction | None = None
    ) -> Path:
        """Downloads a result and checks it. A file of that name is replaced, at the very end."""
        flow = _downloads.download_job(id_of(job), path, patience=self._patience, on_progress=on_progress)
        return await self._driver.run(flow)

    # Uploads.

    async def upload(
        self,
        source: Source,
        *,
        filename: str | None = None,
        chunk_size: int = DEFAULT_CHUNK_SIZE,
        on_progress: ProgressFunction | None = None,
        on_created: Callable[[str], None] | None = None,
        resume: str | Upload | None = None,
    ) -> Upload:
        """Uploads a file in chunks with checksums, to be submitted later."""
        flow = _uploads.upload_source(
            source,
            patience=self._patience,
            filename=filename,
            chunk_size=chunk_size,
            on_progress=on_progress,
            on_created=on_created,
            resume=resume,
        )
        return await self._driver.run(flow)

    async def get_upload(self, upload: Upload | str) -> Upload:
        """How far an upload is."""
        return await self._driver.run(_uploads.get_upload(_uploads.upload_id_of(upload)))

    async def delete_upload(self, upload: Upload | str) -> None:
        """Ends an upload and forgets its bytes."""
        await self._driver.run(_uploads.delete_upload(_uploads.upload_id_of(upload)))

    # The service.

    async def estimate(self, source: Source | Mapping[str, Any], **options: Unpack[JobOptions]) -> Estimate:
        """What a job would cost."""
        return await self._driver.run(_jobs.estimate_job(source, options))

    async def models(self) -> tuple[Model, ...]:
        """The models that the service offers."""
        return await self._driver.run(_jobs.list_models())

    async def me(self) -> Me:
        """Who the key belongs to, and what it may do."""
        return await self._driver.run(_jobs.get_me())
