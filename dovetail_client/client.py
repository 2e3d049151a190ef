"""The client that blocks. Its methods about batches are in `_batch_methods`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, Unpack

import httpx

from dovetail_client import _downloads, _events, _jobs, _uploads, _waiting
from dovetail_client._batch_methods import BatchMethods
from dovetail_client._drivers import Driver
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


class Dovetail(BatchMethods):
    """A Dovetail service. Jobs, batches and uploads are given as such or by their ids.

    Requests that may be repeated are, after connection errors and answers 429, 502, 503 and 504, as late as
    the service asks for. A submission carries a key, so that a repetition never makes a second job.

    Args:
        base_url: Of the service; by default the environment's DOVETAIL_URL, or port 8000 of this machine.
        api_key: By default the environment's DOVETAIL_API_KEY; none is needed where the service wants none.
        timeout: Seconds of silence before a request counts as failed.
        max_retries: How often a request is repeated, and how many failures in a row a transfer bears.
        sleep: Waits so many seconds.
        clock: Seconds that only grow.

    Raises:
        ValueError: If the URL is none, or the key could not be sent.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 5,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = connection_settings(base_url, api_key, timeout)
        self._http = httpx.Client(**settings.http_arguments())
        self._driver = Driver(self._http, max_retries=max_retries, sleep=sleep)
        self._patience = max_retries
        self._clock = clock

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Jobs.

    def submit(
        self,
        source: Source,
        *,
        filename: str | None = None,
        idempotency_key: str | None = None,
        on_progress: ProgressFunction | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Job:
        """Makes a job of a video. Files above 8 MiB go in chunks that survive broken connections.

        Args:
            source: A path, an open binary file, a URL, or what `upload` returned.
            filename: What the service shall call it; by default its own name.
            idempotency_key: Another submission with this key, the same source and options returns the job of
                the first. Across restarts of a program, upload first: a new upload is another source.
            on_progress: Is told bytes sent and bytes in all.
            **options: See `SubmitOptions`.

        Raises:
            APIError: If the service refuses.
            ConnectionFailedError: If it cannot be reached.
            OSError: If a file cannot be read.
        """
        flow = _jobs.submit_source(
            source,
            options,
            patience=self._patience,
            filename=filename,
            idempotency_key=idempotency_key,
            on_progress=on_progress,
        )
        return self._driver.run(flow)

    def get(self, job: Job | str) -> Job:
        """A job as it is now.

        Raises:
            NotFoundError: If there is none of that id.
        """
        return self._driver.run(_jobs.get_job(id_of(job)))

    def list(
        self,
        *,
        status: JobStatus | str | Iterable[JobStatus | str] = (),
        labels: Mapping[str, str] | None = None,
        batch_id: str | None = None,
        order: Literal["desc", "asc"] = "desc",
        limit: int | None = None,
    ) -> Iterator[Job]:
        """All jobs that fit, the newest first; asks for more while one iterates.

        Args:
            status: One or several.
            labels: All of them must be there.
            limit: How many at most.
        """
        params = _jobs.list_params(status=status, labels=labels or {}, batch_id=batch_id, order=order)
        return self._driver.iterate(_jobs.list_jobs(params, limit=limit))

    def cancel(self, job: Job | str) -> Job:
        """Stops a job.

        Raises:
            ConflictError: If it is final already.
        """
        return self._driver.run(_jobs.cancel_job(id_of(job)))

    def retry(self, job: Job | str) -> Job:
        """Lets a failed or cancelled job go on where it ended.

        Raises:
            ConflictError: If it is neither.
        """
        return self._driver.run(_jobs.retry_job(id_of(job)))

    def delete(self, job: Job | str) -> None:
        """Deletes a job with all its files; cancels it first if need be."""
        self._driver.run(_jobs.delete_at(f"/v1/jobs/{id_of(job)}"))

    def wait(
        self,
        job: Job | str,
        *,
        timeout: float | None = None,
        on_update: Callable[[Job], None] | None = None,
        use_events: bool = True,
    ) -> Job:
        """Waits until a job is completed.

        Args:
            timeout: Seconds; None is for ever.
            on_update: Is told the job at first and whenever something changes.
            use_events: Whether to listen; otherwise, and where that fails, it asks every few seconds.

        Raises:
            JobFailedError: If it fails.
            JobCancelledError: If it is cancelled.
            WaitTimeoutError: If it is not final in time. It goes on.
        """
        flow = _waiting.wait_for_job(
            id_of(job),
            timeout=timeout,
            on_update=on_update,
            use_events=use_events,
            clock=self._clock,
            patience=self._patience,
        )
        return self._driver.run(flow)

    def events(self, job: Job | str, *, last_event_id: str | None = None) -> Iterator[JobEvent]:
        """What happens to a job, as it happens, until a final event; missed events are caught up.

        Args:
            last_event_id: The event after which to begin.

        Raises:
            APIError: If the service refuses.
            ConnectionFailedError: If the connection breaks again and again.
        """
        flow = _events.job_events(id_of(job), last_event_id=last_event_id, patience=self._patience)
        return self._driver.iterate(flow)

    def download(
        self, job: Job | str, path: str | os.PathLike[str], *, on_progress: ProgressFunction | None = None
    ) -> Path:
        """Downloads a result and checks it. A file of that name is replaced, at the very end.

        Until then the bytes are in a `.part` file beside it, where an interrupted download goes on.

        Args:
            path: A file, or a folder for a name made from the source's.
            on_progress: Is told bytes received and bytes in all.

        Returns:
            The file.

        Raises:
            NotReadyError: If there is no result (yet).
            GoneError: If it has expired.
            ChecksumMismatchError: If other bytes come than the service made.
            OSError: If it cannot be written.
        """
        flow = _downloads.download_job(id_of(job), path, patience=self._patience, on_progress=on_progress)
        return self._driver.run(flow)

    # Uploads.

    def upload(
        self,
        source: Source,
        *,
        filename: str | None = None,
        chunk_size: int = DEFAULT_CHUNK_SIZE,
        on_progress: ProgressFunction | None = None,
        on_created: Callable[[str], None] | None = None,
        resume: str | Upload | None = None,
    ) -> Upload:
        """Uploads a file in chunks with checksums, to be submitted later. Memory does not grow with its size.

        Args:
            source: A path or an open binary file.
            filename: What the service shall call it; by default its own name.
            chunk_size: Bytes that are sent, and held in memory, at once; what a broken connection costs.
            on_progress: Is told bytes that are there and bytes in all.
            on_created: Is told the upload's URL, to be saved for `resume`.
            resume: An upload that was begun with the same file, or its URL or id.

        Raises:
            TransferError: If it fails again and again, or `resume` is of another file.
            APIError: If the service refuses.
            OSError: If the file cannot be read.
        """
        flow = _uploads.upload_source(
            source,
            patience=self._patience,
            filename=filename,
            chunk_size=chunk_size,
            on_progress=on_progress,
            on_created=on_created,
            resume=resume,
        )
        return self._driver.run(flow)

    def get_upload(self, upload: Upload | str) -> Upload:
        """How far an upload is."""
        return self._driver.run(_uploads.get_upload(_uploads.upload_id_of(upload)))

    def delete_upload(self, upload: Upload | str) -> None:
        """Ends an upload and forgets its bytes."""
        self._driver.run(_uploads.delete_upload(_uploads.upload_id_of(upload)))

    # The service.

    def estimate(self, source: Source | Mapping[str, Any], **options: Unpack[JobOptions]) -> Estimate:
        """What a job would cost.

        Args:
            source: An upload, a URL, or a mapping with `width`, `height`, `frame_rate` and `duration_seconds`
                or `num_frames`.
            **options: See `JobOptions`.
        """
        return self._driver.run(_jobs.estimate_job(source, options))

    def models(self) -> tuple[Model, ...]:
        """The models that the service offers."""
        return self._driver.run(_jobs.list_models())

    def me(self) -> Me:
        """Who the key belongs to, and what it may do."""
        return self._driver.run(_jobs.get_me())
