"""Downloads that go on where they broke, and are what the service made, or nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import httpx

from dovetail_client._api import Api
from dovetail_client._retries import is_temporary
from dovetail_client._uploads import ProgressFunction
from dovetail_client.errors import (
    APIError,
    ChecksumMismatchError,
    ConnectionFailedError,
    DovetailError,
    NotReadyError,
)
from dovetail_client.models import Job, JobOutput

CHUNK_BYTES = 2**20
READ_TIMEOUT_SECONDS = 60.0
RANGE_NOT_SATISFIABLE = 416
# Of a result's name in that of its unfinished file: of four bytes each, they and the rest stay below 255.
_KEPT_LETTERS = 50


async def download_job(
    api: Api, job_id: str, path: str | os.PathLike[str], *, on_progress: ProgressFunction | None = None
) -> Path:
    """Downloads a result; see `Dovetail.download`."""
    job = await api.get(Job, f"/v1/jobs/{job_id}")
    output = job.output
    if output is None:
        raise NotReadyError(409, "not_ready", detail=f"{job.id} is {job.status}, there is no result of it")
    destination = Path(path)
    if destination.is_dir():
        destination /= default_name(job)
    part = await api.work(PartFile, destination, output)
    try:
        await _Fetching(api, job.id, output, part, on_progress=on_progress).run()
        await api.work(part.finish)
    finally:
        part.close()
    return destination


def default_name(job: Job) -> str:
    """A file name for a result, made from the source's."""
    container = job.options.get("container") or "mp4"
    return f"{source_stem(job.input.filename) or job.id}-upscaled.{container}"


def source_stem(filename: str | None) -> str:
    """The name of a source without its ending; never with a folder in it, whatever was submitted."""
    stem = PurePosixPath((filename or "").replace("\\", "/")).stem
    return "" if stem in (".", "..") else stem


class PartFile:
    """The file beside the destination that grows; its name has the digest of the whole, so that bytes of
    another result are never taken for these.

    Raises:
        OSError: If it cannot be written.
    """

    def __init__(self, destination: Path, output: JobOutput) -> None:
        self.path = destination.with_name(f"{destination.name[:_KEPT_LETTERS]}.{output.sha256[:12]}.part")
        self._destination = destination
        self._file: BinaryIO = self.path.open("a+b")
        self._file.seek(0)
        self._digest = hashlib.file_digest(self._file, "sha256")
        self.num_bytes = self._file.tell()

    def append(self, chunk: bytes) -> None:
        """Writes at the end."""
        self._file.write(chunk)
        self._digest.update(chunk)
        self.num_bytes += len(chunk)

    def restart(self) -> None:
        """Forgets all bytes."""
        self._file.truncate(0)
        self._digest = hashlib.sha256()
        self.num_bytes = 0

    @property
    def sha256(self) -> str:
        """Digest of the bytes so far."""
        return self._digest.hexdigest()

    def finish(self) -> None:
        """Gives the file its name, after its bytes are on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.path.replace(self._destination)

    def close(self) -> None:
        """Keeps the bytes for another try."""
        self._file.close()


class _Fetching:
    """One result on its way."""

    def __init__(
        self,
        api: Api,
        job_id: str,
        output: JobOutput,
        part: PartFile,
        *,
        on_progress: ProgressFunction | None,
    ) -> None:
        self._api, self._job_id, self._output, self._part = api, job_id, output, part
        self._on_progress = on_progress
        self._etag = f'"{output.sha256}"'
        self._patience = api.patience()

    async def run(self) -> None:
        """Fetches until size and digest are right.

        Raises:
            ChecksumMismatchError: If they are wrong twice.
        """
        for _ in range(2):
            while self._part.num_bytes < self._output.size_bytes:
                await self._fetch()
            if self._part.num_bytes == self._output.size_bytes and self._part.sha256 == self._output.sha256:
                return
            received = f"{self._part.num_bytes} bytes with SHA-256 {self._part.sha256}"
            await self._api.work(self._part.restart)
        raise ChecksumMismatchError(
            f"received {received} as the result of {self._job_id}, which has {self._output.size_bytes} bytes "
            f"with {self._output.sha256}"
        )

    async def _fetch(self) -> None:
        """Fetches what is missing, or as much of it as comes."""
        headers = {"Accept-Encoding": "identity"}
        before = self._part.num_bytes
        if before:
            headers |= {"Range": f"bytes={before}-", "If-Range": self._etag}
        error: DovetailError = ConnectionFailedError(f"the result of {self._job_id} ends too early")
        try:
            async with self._api.open(
                "GET",
                f"/v1/jobs/{self._job_id}/content",
                headers=headers,
                read_seconds=READ_TIMEOUT_SECONDS,
                chunk_bytes=CHUNK_BYTES,
            ) as (answer, chunks):
                await self._take(answer, chunks)
        except DovetailError as failure:
            if isinstance(failure, APIError) and failure.status == RANGE_NOT_SATISFIABLE:
                await self._api.work(self._part.restart)  # the next request asks for everything
            elif not is_temporary(failure):
                raise
            error = failure
        if self._part.num_bytes >= self._output.size_bytes:
            return
        if self._part.num_bytes > before:
            self._patience.renew()
        await self._patience.bear(error)

    async def _take(self, answer: httpx.Response, chunks: AsyncIterator[bytes]) -> None:
        start = f"bytes {self._part.num_bytes}-"
        is_continued = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(start)
        if not is_continued:
            await self._api.work(self._part.restart)
        etag = answer.headers.get("ETag", "")
        if etag.startswith('"'):  # a weak one is no use for If-Range
            self._etag = etag
        # Another answer than what was asked for is not read: the next request asks for everything.
        if is_continued or answer.status_code == 200:
            async for chunk in chunks:
                await self._api.work(self._part.append, chunk)
                if self._on_progress is not None:
                    self._on_progress(self._part.num_bytes, self._output.size_bytes)
                if self._part.num_bytes > self._output.size_bytes:
                    break
