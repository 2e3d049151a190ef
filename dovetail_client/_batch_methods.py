"""The methods of `Dovetail` and `AsyncDovetail` about batches, which both clients inherit."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Unpack

from dovetail_client import _batches, _jobs, _waiting
from dovetail_client._drivers import AsyncDriver, Driver
from dovetail_client._sources import Source, id_of
from dovetail_client._uploads import ProgressFunction
from dovetail_client.models import Batch, BatchResult
from dovetail_client.options import SubmitOptions


class BatchMethods:
    """Many jobs at once, for the client that blocks and sets these attributes."""

    _driver: Driver
    _patience: int
    _clock: Callable[[], float]

    def create_batch(
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
        flow = _batches.create_batch(
            inputs,
            options,
            patience=self._patience,
            prefix=prefix,
            manifest=manifest,
            idempotency_key=idempotency_key,
            on_progress=on_progress,
        )
        return self._driver.run(flow)

    def get_batch(self, batch: Batch | str) -> Batch:
        """A batch as it is now."""
        return self._driver.run(_batches.get_batch(id_of(batch)))

    def list_batches(self, *, limit: int | None = None) -> Iterator[Batch]:
        """All batches, the newest first."""
        return self._driver.iterate(_batches.list_batches(limit=limit))

    def cancel_batch(self, batch: Batch | str) -> Batch:
        """Stops all jobs of a batch that are not final."""
        return self._driver.run(_batches.cancel_batch(id_of(batch)))

    def delete_batch(self, batch: Batch | str) -> None:
        """Deletes a batch with its jobs and their files."""
        self._driver.run(_jobs.delete_at(f"/v1/batches/{id_of(batch)}"))

    def wait_batch(
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
        flow = _waiting.wait_for_batch(id_of(batch), timeout=timeout, on_update=on_update, clock=self._clock)
        return self._driver.run(flow)

    def batch_results(self, batch: Batch | str) -> tuple[BatchResult, ...]:
        """What became of each job of a batch."""
        return self._driver.run(_batches.batch_results(id_of(batch)))

    def download_batch(
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
        flow = _batches.download_batch(id_of(batch), folder, patience=self._patience, on_download=on_download)
        return self._driver.run(flow)


class AsyncBatchMethods:
    """The same methods as `BatchMethods`, where their arguments and errors are described, to be awaited."""

    _driver: AsyncDriver
    _patience: int
    _clock: Callable[[], float]

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
        """Makes a job of every input. Files are uploaded one after the other."""
        flow = _batches.create_batch(
            inputs,
            options,
            patience=self._patience,
            prefix=prefix,
            manifest=manifest,
            idempotency_key=idempotency_key,
            on_progress=on_progress,
        )
        return await self._driver.run(flow)

    async def get_batch(self, batch: Batch | str) -> Batch:
        """A batch as it is now."""
        return await self._driver.run(_batches.get_batch(id_of(batch)))

    def list_batches(self, *, limit: int | None = None) -> AsyncIterator[Batch]:
        """All batches, the newest first."""
        return self._driver.iterate(_batches.list_batches(limit=limit))

    async def cancel_batch(self, batch: Batch | str) -> Batch:
        """Stops all jobs of a batch that are not final."""
        return await self._driver.run(_batches.cancel_batch(id_of(batch)))

    async def delete_batch(self, batch: Batch | str) -> None:
        """Deletes a batch with its jobs and their files."""
        await self._driver.run(_jobs.delete_at(f"/v1/batches/{id_of(batch)}"))

    async def wait_batch(
        self,
        batch: Batch | str,
        *,
        timeout: float | None = None,
        on_update: Callable[[Batch], None] | None = None,
    ) -> Batch:
        """Waits until every job of a batch is final; failed ones are in its counts."""
        flow = _waiting.wait_for_batch(id_of(batch), timeout=timeout, on_update=on_update, clock=self._clock)
        return await self._driver.run(flow)

    async def batch_results(self, batch: Batch | str) -> tuple[BatchResult, ...]:
        """What became of each job of a batch."""
        return await self._driver.run(_batches.batch_results(id_of(batch)))

    async def download_batch(
        self,
        batch: Batch | str,
        folder: str | os.PathLike[str],
        *,
        on_download: Callable[[Path], None] | None = None,
    ) -> tuple[Path, ...]:
        """Downloads and checks every result that there is, into a folder that is made if need be."""
        flow = _batches.download_batch(id_of(batch), folder, patience=self._patience, on_download=on_download)
        return await self._driver.run(flow)
