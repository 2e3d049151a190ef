"""Uploads by tus 1.0: in chunks with checksums, going on after whatever breaks. Large ones go straight to the
service's storage where that takes them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx

from dovetail_client._api import Api
from dovetail_client._direct import DirectSending
from dovetail_client._retries import is_temporary
from dovetail_client._sources import LocalFile, id_of
from dovetail_client.errors import (
    APIError,
    ChecksumMismatchError,
    ConnectionFailedError,
    DovetailError,
    GoneError,
    NotFoundError,
    TransferError,
    UnexpectedAnswerError,
)
from dovetail_client.models import Upload

ProgressFunction = Callable[[int, int], None]
"""Is told the bytes that are there and the bytes in all."""

DEFAULT_CHUNK_SIZE = 8 * 2**20

# Over a line that breaks all the time, smaller chunks still arrive: a broken one counts for nothing.
SMALLEST_CHUNK_SIZE = 256 * 2**10

CHECKSUM_MISMATCH = 460
# Where one asks how far the upload is and goes on: another offset, locked, broken while it was written.
_MENDABLE_STATUSES = frozenset({409, 423, 500})
_TUS = {"Tus-Resumable": "1.0.0"}


class Uploading:
    """One file on its way; see `Dovetail.upload`."""

    def __init__(
        self,
        api: Api,
        file: LocalFile,
        *,
        chunk_size: int = DEFAULT_CHUNK_SIZE,
        on_progress: ProgressFunction | None = None,
    ) -> None:
        if chunk_size < 1:
            raise ValueError(f"chunk_size is {chunk_size}; it takes at least one byte")
        self._api, self._file, self._chunk_size = api, file, chunk_size
        self._on_progress = on_progress
        self._patience = api.patience()

    async def run(
        self, resume: str | Upload | None = None, on_created: Callable[[str], None] | None = None
    ) -> Upload:
        """Creates the upload, or finds out how far it is, and sends what is missing."""
        upload_id = await self._create() if resume is None else upload_id_of(resume)
        offset = 0 if resume is None else await self._offset(upload_id)
        direct = DirectSending(self._api, self._file, upload_id, self._tell)
        # Who wants smaller chunks has a line for which the storage's parts are too large.
        is_large = self._file.size_bytes > self._chunk_size >= DEFAULT_CHUNK_SIZE
        parts = await direct.offer() if is_large and not offset else None
        if parts is not None and resume is None and not await direct.can_reach(parts):
            await delete_upload(self._api, upload_id)
            upload_id, parts = await self._create(), None
        if resume is None and on_created is not None:
            on_created(path_of(upload_id))
        if parts is not None:
            return await direct.run(parts)
        self._tell(offset)
        while offset < self._file.size_bytes:
            offset = await self._send_chunk(upload_id, offset)
        return await self._api.get(Upload, path_of(upload_id))

    async def _create(self) -> str:
        name = base64.b64encode(self._file.filename.encode()).decode()
        headers = {
            **_TUS,
            "Upload-Length": str(self._file.size_bytes),
            "Upload-Metadata": f"filename {name}",
        }
        # An upload whose answer is lost stays empty and expires, so that a second one does no harm.
        answer = await self._api.send("POST", "/v1/uploads", headers=headers, is_repeatable=True)
        location = answer.headers.get("Location")
        if location is None:
            raise UnexpectedAnswerError("the service made an upload without saying where: no Location header")
        return upload_id_of(location)

    async def _offset(self, upload_id: str) -> int:
        try:
            answer = await self._api.send("HEAD", path_of(upload_id), headers=_TUS)
        except (NotFoundError, GoneError):  # without a word of why, as an answer to HEAD has no body
            await self._api.get(Upload, path_of(upload_id))
            raise
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
        chunk, digest = await self._api.work(self._file.piece, offset, self._chunk_size, "sha256")
        headers = {
            **_TUS,
            "Upload-Offset": str(offset),
            "Upload-Checksum": f"sha256 {digest}",
            "Content-Type": "application/offset+octet-stream",
        }
        try:
            answer = await self._api.send("PATCH", path_of(upload_id), headers=headers, content=chunk)
        except DovetailError as error:
            if isinstance(error, ConnectionFailedError):
                self._chunk_size = max(self._chunk_size // 2, min(self._chunk_size, SMALLEST_CHUNK_SIZE))
            await self._patience.bear(_chunk_error(error, upload_id, offset))
            return await self._offset(upload_id)
        finally:
            chunk.clear()
        self._patience.renew()
        offset = _offset_of(answer)
        self._tell(offset)
        return offset

    def _tell(self, offset: int) -> None:
        if self._on_progress is not None:
            self._on_progress(offset, self._file.size_bytes)


async def delete_upload(api: Api, upload_id: str) -> None:
    """Ends an upload and forgets its bytes."""
    await api.delete(path_of(upload_id), headers=_TUS)


def path_of(upload_id: str) -> str:
    """Where an upload is."""
    return f"/v1/uploads/{upload_id}"


def upload_id_of(upload: str | Upload) -> str:
    """The id of an upload that is given as such, by its id, or by its URL."""
    return id_of(urlsplit(upload).path.rstrip("/").rpartition("/")[2] if isinstance(upload, str) else upload)


def _chunk_error(error: DovetailError, upload_id: str, offset: int) -> DovetailError:
    """The error of a chunk, which another try may mend.

    Raises:
        DovetailError: If no other try helps.
    """
    if isinstance(error, APIError) and error.status == CHECKSUM_MISMATCH:
        return ChecksumMismatchError(
            f"bytes of {upload_id} from {offset} on arrive changed, again and again; something on the way "
            "changes them"
        )
    if not is_temporary(error) and not (isinstance(error, APIError) and error.status in _MENDABLE_STATUSES):
        raise error
    return error


def _offset_of(answer: httpx.Response) -> int:
    text = answer.headers.get("Upload-Offset", "")
    if not text.isdecimal():
        raise UnexpectedAnswerError(f"expected a number of bytes as Upload-Offset, received {text!r}")
    return int(text)
