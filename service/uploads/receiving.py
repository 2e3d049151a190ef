"""Takes bytes of an upload in, block by block; where they go is a sink's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Protocol, Self

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from jobs.upload_records import Upload
from service.errors import TooLargeError
from service.lanes import Lane
from service.uploads.protocol import Checksum

_BLOCK_BYTES = 1 << 20
# A connection that says nothing for so long is dead; its client may be waiting to go on.
SILENCE_SECONDS = 30.0


class Sink(Protocol):
    """Where bytes of one request go, in a `with` block, while the request has the upload's lock. Its methods
    block and may raise StorageError, and LostUploadLockError where another process has taken over.

    Attributes:
        offset: Of the next byte.
    """

    offset: int

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def write(self, block: bytes) -> None:
        """Takes the next bytes. They are not safe yet, and not part of the upload."""

    def checkpoint(self) -> None:
        """Makes what is there safe and part of the upload, if it is so much that it is worth it."""

    def keep(self) -> None:
        """Makes all that is there safe and part of the upload, but for the last byte of the whole: that one
        is acknowledged only when the whole is known to be a video."""

    def complete(self) -> None:
        """Makes the object of all bytes."""


async def receive(
    stream: AsyncIterator[bytes], sink: Sink, upload: Upload, *, checksum: Checksum | None, lane: Lane
) -> int:
    """Appends a body to an upload. What came before a break is kept, unless there is a checksum.

    Args:
        stream: The body.
        sink: Where it goes.
        upload: What it belongs to.
        checksum: Of the body; None to keep whatever comes.
        lane: Where to write.

    Returns:
        The offset from which to go on.

    Raises:
        ChecksumError: If the body is not what was announced. Nothing of it is kept.
        TooLargeError: If more comes than the upload was to have. The block with it is not kept.
        StorageFullError: If the disk is full.
        LostUploadLockError: If this process was thought dead.
    """
    writer = _Writer(sink, upload, checksum)
    is_broken = False
    try:
        is_broken = await _copy(stream, writer, lane)
    finally:
        # Also after an error, such as a body that is too long: what has come counts.
        offset = await run_in_threadpool(writer.close, is_broken=is_broken)
    return offset


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
    """Passes on what may come, and decides what is kept of it."""

    def __init__(self, sink: Sink, upload: Upload, checksum: Checksum | None) -> None:
        self.owner = upload.owner
        self._sink, self._upload, self._checksum = sink, upload, checksum

    def write(self, block: bytes) -> None:
        if self._sink.offset + len(block) > self._upload.size_bytes:
            raise TooLargeError(
                f"more came than the {self._upload.size_bytes} bytes that Upload-Length announced"
            )
        self._sink.write(block)
        if self._checksum is not None:
            self._checksum.update(block)
        else:
            self._sink.checkpoint()

    def close(self, *, is_broken: bool) -> int:
        if self._checksum is not None:
            if is_broken:
                return self._upload.offset
            self._checksum.check()
        self._sink.keep()
        return self._sink.offset
