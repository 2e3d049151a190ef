"""What one does with jobs, for both clients."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Unpack
from uuid import uuid4

from dovetail_client._api import Methods
from dovetail_client._downloads import download_job
from dovetail_client._events import job_events
from dovetail_client._sources import LocalFile, Source, id_of, remote_source
from dovetail_client._uploads import ProgressFunction, Uploading
from dovetail_client._waiting import Watch, wait_for_job
from dovetail_client._words import JobStatus
from dovetail_client.errors import JobCancelledError, JobFailedError
from dovetail_client.models import Job, JobEvent, JobList
from dovetail_client.options import SubmitOptions, request_fields

LARGEST_MULTIPART_BYTES = 8 * 2**20


class JobMethods(Methods):
    """Jobs are given as such or by their ids."""

    async def submit(
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
        fields = request_fields(options)
        key = {"Idempotency-Key": idempotency_key or str(uuid4())}
        named = remote_source(source)
        if named is None:
            with await self._api.work(LocalFile, source, filename) as file:
                if file.size_bytes <= LARGEST_MULTIPART_BYTES:
                    job = await self._submit_form(file, fields, key)
                    if on_progress is not None:
                        on_progress(file.size_bytes, file.size_bytes)
                    return job
                uploaded = await Uploading(self._api, file, on_progress=on_progress).run()
            named = {"type": "upload", "upload_id": uploaded.id}
        if filename is not None:
            fields["filename"] = filename
        return await self._api.post(Job, "/v1/jobs", {"source": named, **fields}, headers=key)

    async def get(self, job: Job | str) -> Job:
        """A job as it is now.

        Raises:
            NotFoundError: If there is none of that id.
        """
        return await self._api.get(Job, f"/v1/jobs/{id_of(job)}")

    def list(
        self,
        *,
        status: JobStatus | str | Iterable[JobStatus | str] = (),
        labels: Mapping[str, str] | None = None,
        batch_id: str | None = None,
        order: Literal["desc", "asc"] = "desc",
        limit: int | None = None,
    ) -> AsyncGenerator[Job, None]:
        """All jobs that fit, the newest first; asks for more while one iterates.

        Args:
            status: One or several.
            labels: All of them must be there.
            limit: How many at most.
        """
        statuses = [status] if isinstance(status, str) else status
        params = [("status", str(one)) for one in statuses]
        params += [("label", f"{name}:{value}") for name, value in (labels or {}).items()]
        if batch_id is not None:
            params.append(("batch_id", batch_id))
        return self._api.pages(JobList, "/v1/jobs", (*params, ("order", order)), limit=limit)

    async def cancel(self, job: Job | str) -> Job:
        """Stops a job.

        Raises:
            ConflictError: If it is final already.
        """
        return await self._api.post(Job, f"/v1/jobs/{id_of(job)}/cancel")

    async def retry(self, job: Job | str) -> Job:
        """Lets a failed or cancelled job go on where it ended.

        Raises:
            ConflictError: If it is neither.
        """
        return await self._api.post(Job, f"/v1/jobs/{id_of(job)}/retry")

    async def deliver(self, job: Job | str, deliver_to: str | None = None) -> Job:
        """Sends the result of a completed job to an address, or once more to where it went before.

        Raises:
            ConflictError: If there is no result, or it has never been delivered and no address is given.
        """
        body = {} if deliver_to is None else {"deliver_to": deliver_to}
        return await self._api.post(Job, f"/v1/jobs/{id_of(job)}/deliver", body)

    async def delete(self, job: Job | str) -> None:
        """Deletes a job with all its files; cancels it first if need be."""
        await self._api.delete(f"/v1/jobs/{id_of(job)}")

    async def wait(
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
        found = id_of(job)
        watch = Watch(self._api, f"/v1/jobs/{found}", Job, timeout_seconds=timeout, on_update=on_update)
        done = await (wait_for_job(self._api, found, watch) if use_events else watch.until_final())
        if done.status is JobStatus.FAILED:
            raise JobFailedError(done)
        if done.status is JobStatus.CANCELLED:
            raise JobCancelledError(done)
        return done

    def events(self, job: Job | str, *, last_event_id: str | None = None) -> AsyncGenerator[JobEvent, None]:
        """What happens to a job, as it happens, until a final event; missed events are caught up.

        Args:
            last_event_id: The event after which to begin.

        Raises:
            APIError: If the service refuses.
            ConnectionFailedError: If the connection breaks again and again.
        """
        return job_events(self._api, id_of(job), last_event_id=last_event_id)

    async def download(
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
        return await download_job(self._api, id_of(job), path, on_progress=on_progress)

    async def _submit_form(self, file: LocalFile, fields: Mapping[str, Any], key: Mapping[str, str]) -> Job:
        content = await self._api.work(file.read_at, 0, LARGEST_MULTIPART_BYTES)
        # The same each time, as the service compares what is sent again with what came first.
        kind = {"Content-Type": f"multipart/form-data; boundary={uuid4().hex}"}
        return await self._api.post(
            Job,
            "/v1/jobs",
            headers={**key, **kind},
            data={"request": json.dumps(fields)},
            files={"file": (file.filename, content, "application/octet-stream")},
        )
