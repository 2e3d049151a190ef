"""Uploads by tus 1.0: in chunks with checksums, going on after whatever breaks. Large ones go straight to the
service's storage where that takes them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from urllib.parse import urlsplit

from dovetail_client._answers import parse, require_success, retry_after_seconds, to_error
from dovetail_client._calls import Answer, Call
from dovetail_client._direct import DirectSending
from dovetail_client._http import Http
from dovetail_client._retries import TEMPORARY_STATUSES, backoff_seconds
from dovetail_client._sources import LocalFile, id_of
from dovetail_client.errors import (
    ChecksumMismatchError,
    ConnectionFailedError,
    DovetailError,
    TransferError,
    UnexpectedAnswerError,
)
from dovetail_client.models import Upload

ProgressFunction = Callable[[int, int], None]
"""Is told the bytes that are there and the bytes in all."""

DEFAULT_CHUNK_SIZE = 8 * 2**20

# Over a line that breaks all the time, smaller chunks still arrive: a broken one counts for nothing.
SMALLEST_CHUNK_SIZE = 256 * 2**10

CHECKSUM_MISMATCH, LOCKED = 460, 423
_TUS = {"Tus-Resumable": "1.0.0"}


async def upload_file(
    http: Http,
    file: LocalFile,
    *,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    on_progress: ProgressFunction | None = None,
    on_created: Callable[[str], None] | None = None,
    resume: str | Upload | None = None,
) -> Upload:
    """Uploads a file that is open; see `Dovetail.upload`."""
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; it takes at least one byte")
    sending = _Sending(http, file, chunk_size=chunk_size, on_progress=on_progress)
    return await sending.run(resume, on_created)


async def get_upload(http: Http, upload_id: str) -> Upload:
    """How far an upload is."""
    return parse(await http.send(Call("GET", f"/v1/uploads/{upload_id}")), Upload)


async def delete_upload(http: Http, upload_id: str) -> None:
    """Ends an upload and forgets its bytes."""
    require_success(await http.send(Call("DELETE", f"/v1/uploads/{upload_id}", headers=_TUS)))


class _Sending:
    """One file on its way."""

    def __init__(
        self, http: Http, file: LocalFile, *, chunk_size: int, on_progress: ProgressFunction | None
    ) -> None:
        self._http = http
        self._file = file
        self._chunk_size = chunk_size
        self._on_progress = on_progress
        self._num_failures = 0

    async def run(self, resume: str | Upload | None, on_created: Callable[[str], None] | None) -> Upload:
        """Creates the upload, or finds out how far it is, and sends what is missing."""
        upload_id = await self._create() if resume is None else upload_id_of(resume)
        offset = 0 if resume is None else await self._offset(upload_id)
        direct = DirectSending(self._http, self._file, upload_id, self._tell)
        # Who wants smaller chunks has a line for which the storage's parts are too large.
        is_large = self._file.size_bytes > self._chunk_size >= DEFAULT_CHUNK_SIZE
        parts = await direct.offer() if is_large and not offset else None
        if parts is not None and resume is None and not await direct.can_reach(parts):
            await delete_upload(self._http, upload_id)
            upload_id, parts = await self._create(), None
        if resume is None and on_created is not None:
            on_created(f"/v1/uploads/{upload_id}")
        if parts is not None:
            return await direct.run(parts)
        self._tell(offset)
        while offset < self._file.size_bytes:
            offset = await self._send_chunk(upload_id, offset)
        return await get_upload(self._http, upload_id)

    async def _create(self) -> str:
        name = base64.b64encode(self._file.filename.encode()).decode()
        headers = {
            **_TUS,
            "Upload-Length": str(self._file.size_bytes),
            "Upload-Metadata": f"filename {name}",
        }
        # An upload whose answer is lost stays empty and expires, so that a second one does no harm.
        answer = await self._http.send(Call("POST", "/v1/uploads", headers=headers, is_repeatable=True))
        require_success(answer)
        location = answer.headers.get("Location")
        if location is None:
            raise UnexpectedAnswerError("the service made an upload without saying where: no Location header")
        return upload_id_of(location)

    async def _offset(self, upload_id: str) -> int:
        answer = await self._http.send(Call("HEAD", f"/v1/uploads/{upload_id}", headers=_TUS))
        if answer.status in (404, 410):  # an answer to HEAD has no words of its own
            await get_upload(self._http, upload_id)
        require_success(answer)
        length = int(answer.headers.get("Upload-Length", self._file.size_bytes))
        if length != self._file.size_bytes:
            raise TransferError(
                f"{upload_id} was begun with a file of {length} bytes, {self._file.filename} has "
                f"{self._file.size_bytes}; begin a new upload"
            )
        return _offset_of(answer)

    async def _send_chunk(self, upload_id: str, offset: int) -> int:
        """Sends one chunk.

        Returns:
            Where to go on: after it, or where the service says it is when something broke.
        """
        chunk, digest = await self._http.work(self._read, offset)
        headers = {
            **_TUS,
            "Upload-Offset": str(offset),
            "Upload-Checksum": f"sha256 {digest}",
            "Content-Type": "application/offset+octet-stream",
        }
        asked: float | None = None
        error: DovetailError
        try:
            call = Call("PATCH", f"/v1/uploads/{upload_id}", headers=headers, content=chunk)
            answer = await self._http.send(call)
        except ConnectionFailedError as failure:
            error = failure
            self._chunk_size = max(self._chunk_size // 2, min(self._chunk_size, SMALLEST_CHUNK_SIZE))
        else:
            if answer.status in (200, 204):
                self._num_failures = 0
                offset = _offset_of(answer)
                self._tell(offset)
                return offset
            error = _chunk_error(answer, upload_id, offset)
            asked = retry_after_seconds(answer.headers)
        finally:
            chunk.clear()
        self._num_failures += 1
        if self._num_failures > self._http.patience:
            raise error
        await self._http.sleep(backoff_seconds(self._num_failures, asked))
        return await self._offset(upload_id)

    def _read(self, offset: int) -> tuple[bytearray, str]:
        chunk = self._file.read_at(offset, self._chunk_size)
        if not chunk:
            raise TransferError(f"{self._file.filename} has become shorter than {offset} bytes meanwhile")
        return bytearray(chunk), base64.b64encode(hashlib.sha256(chunk).digest()).decode()

    def _tell(self, offset: int) -> None:
        if self._on_progress is not None:
            self._on_progress(offset, self._file.size_bytes)


def upload_id_of(upload: str | Upload) -> str:
    """The id of an upload that is given as such, by its id, or by its URL."""
    return id_of(urlsplit(upload).path.rstrip("/").rpartition("/")[2] if isinstance(upload, str) else upload)


def _chunk_error(answer: Answer, upload_id: str, offset: int) -> DovetailError:
    """The error of a chunk, which another try may mend.

    Raises:
        APIError: If no other try helps.
    """
    if answer.status == CHECKSUM_MISMATCH:
        return ChecksumMismatchError(
            f"bytes of {upload_id} from {offset} on arrive changed, again and again; something on the way "
            "changes them"
        )
    error = to_error(answer)
    if answer.status not in TEMPORARY_STATUSES | {409, LOCKED, 500}:
        raise error
    return error


def _offset_of(answer: Answer) -> int:
    text = answer.headers.get("Upload-Offset", "")
    if not text.isdecimal():
        raise UnexpectedAnswerError(f"expected a number of bytes as Upload-Offset, received {text!r}")
    return int(text)
