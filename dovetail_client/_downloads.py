"""Downloads that go on where they broke, and are what the service made, or nothing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from dovetail_client._answers import parse, retry_after_seconds, to_error
from dovetail_client._calls import Call
from dovetail_client._http import Http, Opened
from dovetail_client._retries import TEMPORARY_STATUSES, backoff_seconds
from dovetail_client.errors import (
    ChecksumMismatchError,
    ConnectionFailedError,
    DovetailError,
    NotReadyError,
)
from dovetail_client.models import Job, JobOutput

if TYPE_CHECKING:
    from dovetail_client._uploads import ProgressFunction

CHUNK_BYTES = 2**20
READ_TIMEOUT_SECONDS = 60.0
# Of a result's name in that of its unfinished file: of four bytes each, they and the rest stay below 255.
_KEPT_LETTERS = 50


async def download_job(
    http: Http, job_id: str, path: str | os.PathLike[str], *, on_progress: ProgressFunction | None = None
) -> Path:
    """Downloads a result; see `Dovetail.download`."""
    job = parse(await http.send(Call("GET", f"/v1/jobs/{job_id}")), Job)
    output = job.output
    if output is None:
        raise NotReadyError(409, "not_ready", detail=f"{job.id} is {job.status}, there is no result of it")
    destination = Path(path)
    if destination.is_dir():
        destination /= default_name(job)
    part = await http.work(PartFile, destination, output)
    try:
        await _Fetching(http, job.id, output, part, on_progress=on_progress).run()
        await http.work(part.finish)
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
        http: Http,
        job_id: str,
        output: JobOutput,
        part: PartFile,
        *,
        on_progress: ProgressFunction | None,
    ) -> None:
        self._http = http
        self._path = f"/v1/jobs/{job_id}/content"
        self._job_id = job_id
        self._output = output
        self._part = part
        self._on_progress = on_progress
        self._etag = f'"{output.sha256}"'
        self._num_failures = 0

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
            await self._http.work(self._part.restart)
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
        asked: float | None = None
        error: DovetailError = ConnectionFailedError(f"the result of {self._job_id} ends too early")
        try:
            call = Call("GET", self._path, headers=headers)
            async with self._http.opened(call, READ_TIMEOUT_SECONDS, CHUNK_BYTES) as stream:
                if stream.status in TEMPORARY_STATUSES:
                    asked = retry_after_seconds(stream.headers)
                    error = to_error(await stream.whole())
                else:
                    await self._take(stream)
        except ConnectionFailedError as failure:
            error = failure
        if self._part.num_bytes >= self._output.size_bytes:
            return
        self._num_failures = 1 if self._part.num_bytes > before else self._num_failures + 1
        if self._num_failures > self._http.patience:
            raise error
        await self._http.sleep(backoff_seconds(self._num_failures, asked))

    async def _take(self, stream: Opened) -> None:
        start = f"bytes {self._part.num_bytes}-"
        is_continued = stream.status == 206 and stream.headers.get("Content-Range", "").startswith(start)
        if stream.status not in (200, 206, 416):
            raise to_error(await stream.whole())
        if not is_continued:
            await self._http.work(self._part.restart)
        etag = stream.headers.get("ETag", "")
        if etag.startswith('"'):  # a weak one is no use for If-Range
            self._etag = etag
        # Another answer than what was asked for is not read: the next request asks for everything.
        if is_continued or stream.status == 200:
            while chunk := await stream.read():
                await self._http.work(self._part.append, chunk)
                if self._on_progress is not None:
                    self._on_progress(self._part.num_bytes, self._output.size_bytes)
                if self._part.num_bytes > self._output.size_bytes:
                    break
