"""What one does with batches, for both clients."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack
from uuid import uuid4

from dovetail_client._api import Methods
from dovetail_client._downloads import download_job, source_stem
from dovetail_client._sources import LocalFile, Source, id_of, remote_source
from dovetail_client._uploads import ProgressFunction, Uploading
from dovetail_client._waiting import Watch
from dovetail_client._words import JobStatus
from dovetail_client.models import Batch, BatchResult, Page
from dovetail_client.options import SubmitOptions, request_fields


class BatchMethods(Methods):
    """Many jobs at once. Batches are given as such or by their ids."""

    async def create_batch(
        self,
        inputs: Iterable[Source | Mapping[str, Any]] = (),
        *,
        prefix: str | None = None,
        manifest: str | None = None,
        idempotency_key: str | None = None,
        on_progress: ProgressFunction | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Batch:
        """Makes a job of every input. Files are uploaded one after the other.

        Args:
            inputs: What `submit` takes; or a mapping, sent as it is, with a `source` and options of its own.
            prefix: Of objects, `s3://bucket/folder/`, instead.
            manifest: Lines that name inputs, instead.
            idempotency_key: See `submit`.
            on_progress: Is told bytes sent and bytes in all, of each file.
            **options: Of all jobs; see `SubmitOptions`.
        """
        body = request_fields(options)
        found = []
        for one in inputs:
            if isinstance(one, Mapping):
                found.append(dict(one))
                continue
            named = remote_source(one)
            if named is None:
                with await self._api.work(LocalFile, one) as file:
                    upload = await Uploading(self._api, file, on_progress=on_progress).run()
                named = {"type": "upload", "upload_id": upload.id}
            found.append({"source": named})
        wanted = {"inputs": found, "prefix": prefix, "manifest": manifest}
        body |= {name: value for name, value in wanted.items() if value}
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return await self._api.post(Batch, "/v1/batches", body, headers=headers)

    async def get_batch(self, batch: Batch | str) -> Batch:
        """A batch as it is now."""
        return await self._api.get(Batch, f"/v1/batches/{id_of(batch)}")

    def list_batches(self, *, limit: int | None = None) -> AsyncGenerator[Batch, None]:
        """All batches, the newest first."""
        return self._api.pages(Page[Batch], "/v1/batches", limit=limit)

    async def cancel_batch(self, batch: Batch | str) -> Batch:
        """Stops all jobs of a batch that are not final."""
        return await self._api.post(Batch, f"/v1/batches/{id_of(batch)}/cancel")

    async def delete_batch(self, batch: Batch | str) -> None:
        """Deletes a batch with its jobs and their files."""
        await self._api.delete(f"/v1/batches/{id_of(batch)}")

    async def wait_batch(
        self,
        batch: Batch | str,
        *,
        timeout: float | None = None,
        on_update: Callable[[Batch], None] | None = None,
    ) -> Batch:
        """Waits until every job of a batch is final; failed ones are in its counts.

        Raises:
            WaitTimeoutError: If that takes longer than `timeout` seconds. It goes on.
        """
        path = f"/v1/batches/{id_of(batch)}"
        watch = Watch(self._api, path, Batch, timeout_seconds=timeout, on_update=on_update)
        return await watch.until_final()

    async def batch_results(self, batch: Batch | str) -> tuple[BatchResult, ...]:
        """What became of each job of a batch."""
        pages = self._api.pages(Page[BatchResult], f"/v1/batches/{id_of(batch)}/results", page_size=1000)
        return tuple([result async for result in pages])

    async def download_batch(
        self,
        batch: Batch | str,
        folder: str | os.PathLike[str],
        *,
        on_download: Callable[[Path], None] | None = None,
    ) -> tuple[Path, ...]:
        """Downloads and checks every result that there is, into a folder that is made if need be.

        Args:
            on_download: Is told each file when it is there.
        """
        target = Path(folder)
        await self._api.work(lambda: target.mkdir(parents=True, exist_ok=True))
        found = await self.batch_results(batch)
        results = [result for result in found if result.status is JobStatus.COMPLETED]
        paths = []
        for result, name in zip(results, result_names(results), strict=True):
            paths.append(await download_job(self._api, result.job_id, target / name))
            if on_download is not None:
                on_download(paths[-1])
        return tuple(paths)


def result_names(results: Sequence[BatchResult]) -> list[str]:
    """A file name for each result: the source's, with the job's id where several sources share one."""
    stems = [source_stem(result.filename) or result.job_id for result in results]
    num_uses = Counter(stem.casefold() for stem in stems)
    return [
        (stem if num_uses[stem.casefold()] == 1 else f"{stem}-{result.job_id}") + f".{result.container}"
        for stem, result in zip(stems, results, strict=True)
    ]
