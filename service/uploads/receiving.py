"""Takes bytes of an upload in: to the disk in blocks, safe before they are acknowledged."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from jobs.uploads import Upload, UploadStore
from service.errors import GoneError, TooLargeError
from service.lanes import Lane
from service.room import reported_full
from service.uploads.protocol import Checksum, UploadLockedError

_BLOCK_BYTES = 1 << 20
# A killed server loses at most so much of what has arrived.
_CHECKPOINT_BYTES = 64 << 20
# A connection that says nothing for so long is dead; its client may be waiting to go on.
SILENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Received:
    """How receiving ended.

    Attributes:
        offset: Bytes that are on the disk.
        is_broken: Whether the connection broke before the end of the body.
    """

    offset: int
    is_broken: bool


async def receive(
    stream: AsyncIterator[bytes],
    path: Path,
    upload: Upload,
    *,
    store: UploadStore,
    token: str,
    checksum: Checksum | None,
    lane: Lane,
) -> Received:
    """Appends a body to an upload's file. What came before a break is kept, unless there is a checksum.

    The caller holds the upload's lock.

    Args:
        stream: The body.
        path: The file.
        upload: Where the body begins is its offset.
        store: Is told how far it is.
        token: Of the lock.
        checksum: Of the body; None to keep whatever comes.
        lane: Where to write.

    Raises:
        ChecksumError: If the body is not what was announced. Nothing of it is kept.
        TooLargeError: If more comes than the upload was to have. The block with it is not kept.
        StorageFullError: If the disk is full.
        GoneError: If the bytes that were there before are not.
        UploadLockedError: If another process still writes.
        LostUploadLockError: If this process was thought dead.
    """
    with _opened(path, upload) as descriptor:
        writer = _Writer(descriptor, upload, store, token, checksum)
        is_broken = False
        try:
            is_broken = await _copy(stream, writer, lane)
        finally:
            # Also after an error, such as a body that is too long: what is on the disk counts.
            offset = await run_in_threadpool(writer.close, is_broken=is_broken)
        return Received(offset, is_broken)


async def _copy(stream: AsyncIterator[bytes], writer: _Writer, lane: Lane) -> bool:
    """Copies a body; returns whether the connection broke."""
    block = bytearray()
    pieces = aiter(stream)
    is_broken = False
    while True:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                block += await anext(pieces)
        except StopAsyncIteration:
            break
        except (ClientDisconnect, TimeoutError):
            is_broken = True
            break
        if len(block) >= _BLOCK_BYTES:
            await lane.run(writer.owner, writer.write, bytes(block))
            block.clear()
    await lane.run(writer.owner, writer.write, bytes(block))
    return is_broken


class _Writer:
    """Writes blocks, and tells the store how far it is."""

    def __init__(
        self, descriptor: int, upload: Upload, store: UploadStore, token: str, checksum: Checksum | None
    ) -> None:
        self.owner = upload.owner
        self._descriptor, self._upload = descriptor, upload
        self._store, self._token, self._checksum = store, token, checksum
        self._offset = self._recorded = upload.offset

    def write(self, block: bytes) -> None:
        if self._offset + len(block) > self._upload.size_bytes:
            raise TooLargeError(
                f"more came than the {self._upload.size_bytes} bytes that Upload-Length announced"
            )
        view = memoryview(block)
        with reported_full():
            while view:
                written = os.pwrite(self._descriptor, view, self._offset)
                self._offset += written
                view = view[written:]
        if self._checksum is not None:
            self._checksum.update(block)
        elif self._offset - self._recorded >= _CHECKPOINT_BYTES:
            self._record()

    def close(self, *, is_broken: bool) -> int:
        """Makes what has come safe, or throws it away.

        Returns:
            The offset from which to go on.
        """
        if self._checksum is not None:
            if is_broken:
                self._offset = self._upload.offset
                return self._offset
            self._checksum.check()
        if self._offset > self._recorded:
            self._record()
        return self._offset

    def _record(self) -> None:
        with reported_full():
            os.fsync(self._descriptor)
        # The last byte is acknowledged only when the whole is known to be a video and in the storage: whoever
        # is killed before that is sent a little again.
        if self._offset < self._upload.size_bytes:
            self._store.advance(self._upload.id, self._token, self._offset)
        self._recorded = self._offset


@contextmanager
def _opened(path: Path, upload: Upload) -> Iterator[int]:
    """The file, which has its full length from the beginning, with nobody else writing."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError as error:
        raise GoneError("the bytes of this upload are gone; begin it again") from error
    try:
        try:
            # Besides the lock in Redis, which runs out while a process is stopped.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UploadLockedError("another request writes to this upload; try again in a moment") from error
        except OSError:
            pass  # a file system without locks; the one in Redis has to do
        if os.fstat(descriptor).st_size < upload.offset:
            raise GoneError("bytes of this upload are gone; begin it again")
        os.ftruncate(descriptor, upload.size_bytes)
        yield descriptor
    finally:
        os.close(descriptor)
