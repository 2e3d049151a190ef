"""Bytes of an upload as parts of an object in S3, so that any process can go on with it.

S3 takes parts of 5 MiB at least, and clients send what they like: what does not fill a part is kept as
objects of its own (pieces), which go into the next part that is full. Everything that a process must know to
go on is in the upload's record.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from typing import Self

import structlog

from jobs.multipart import MultipartBucket, PartsChangedError, part_bytes
from jobs.objects import incoming_prefix, upload_key
from jobs.storage import Storage
from jobs.upload_records import Upload, UploadParts
from jobs.uploads import UploadStore
from service.errors import ConflictError
from service.room import reported_full
from service.uploads.protocol import WrongOffsetError

_log = structlog.get_logger(__name__)
# More are put together into one: a client of tiny chunks makes few objects, and few are read for a part.
_MAX_PIECES = 64


class PartsSink:
    """Fills parts and sends each when it is full.

    Args:
        storage: Where pieces go.
        bucket: Where parts go; the same bucket.
        upload: Whose bytes come.
        store: Is told what is where.
        token: Of the upload's lock.
        folder: On this machine's disk, for a part that is not full yet.

    Raises:
        ConflictError: If its owner sends the parts to S3.
    """

    def __init__(
        self,
        storage: Storage,
        bucket: MultipartBucket,
        upload: Upload,
        store: UploadStore,
        token: str,
        *,
        folder: Path,
    ) -> None:
        self.offset = self._recorded = upload.offset
        self._storage, self._bucket, self._upload = storage, bucket, upload
        self._store, self._token = store, token
        self._key, self._part_bytes = upload_key(upload.id), part_bytes(upload.size_bytes)
        known = store.parts(upload.id)
        if known.is_direct:
            raise ConflictError("the parts of this upload go to the storage; begin another to send bytes")
        self._multipart_id, self._etags = known.multipart_id, dict(known.etags)
        self._pieces = self._recorded_pieces = known.pieces
        self._new_etags: dict[int, str] = {}
        # Everything before this offset is in parts; pieces come behind it, then the spool.
        self._in_parts = upload.offset - sum(size for _, size in known.pieces)
        # Not in memory: many clients may be sending at the same time.
        self._spool = TemporaryFile(dir=folder)  # noqa: SIM115 - closed with the sink

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._spool.close()

    def write(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            # Full before anything came where an earlier process could not send it.
            if not self._missing():
                self._put_part()
            taken = view[: self._missing()]
            with reported_full():
                self._spool.write(taken)
            self.offset += len(taken)
            view = view[len(taken) :]
        if not self._missing():
            self._put_part()

    def checkpoint(self) -> None:
        if self._new_etags and self._in_parts < self._upload.size_bytes:
            self._record(self._in_parts)

    def keep(self) -> None:
        if self.offset == self._upload.size_bytes:
            self.checkpoint()
        elif self.offset > self._recorded:
            self._put_piece()
            self._record(self.offset)

    def complete(self) -> None:
        """As the protocol says.

        Raises:
            WrongOffsetError: If S3 has lost parts, or has others: the upload goes on where they begin.
        """
        if not self._multipart_id:
            self._storage.put_bytes(self._key, self._held())
        else:
            if self._in_parts < self.offset:
                self._put_part()
            # Whoever has lost the lock ends here.
            self._store.advance(self._upload.id, self._token, self._recorded, self._news())
            try:
                etags = [self._etags[number] for number in range(1, self._num_parts() + 1)]
                self._bucket.complete(self._key, self._multipart_id, etags)
            except PartsChangedError:
                self._go_back()
                raise
        self._storage.delete_prefix(incoming_prefix(self._upload.id))

    def _missing(self) -> int:
        """Bytes until the part is full."""
        return self._part_bytes - (self.offset - self._in_parts)

    def _num_parts(self) -> int:
        return -(-self._in_parts // self._part_bytes)

    def _held(self) -> bytes:
        """What is not in a part."""
        with reported_full():
            self._spool.seek(0)
            return b"".join([*(self._storage.get_bytes(key) for key, _ in self._pieces), self._spool.read()])

    def _put_part(self) -> None:
        if not self._multipart_id:
            self._multipart_id = self._bucket.start(self._key)
            self._store.advance(self._upload.id, self._token, self._recorded, self._news())
        number = self._num_parts() + 1
        etag = self._bucket.put_part(self._key, self._multipart_id, number, self._held())
        self._etags[number] = self._new_etags[number] = etag
        self._in_parts = self.offset
        self._pieces = ()
        self._empty_spool()

    def _put_piece(self) -> None:
        num_bytes = self._spool.seek(0, 2)
        if not num_bytes:
            return
        is_merged = len(self._pieces) >= _MAX_PIECES
        if is_merged:
            num_bytes, content = self.offset - self._in_parts, self._held()
        else:
            self._spool.seek(0)
            content = self._spool.read()
        # With the token, no two requests write the same object.
        key = f"{incoming_prefix(self._upload.id)}{self.offset - num_bytes:015d}-{self._token[:8]}"
        self._storage.put_bytes(key, content)
        self._pieces = (*(() if is_merged else self._pieces), (key, num_bytes))
        self._empty_spool()

    def _empty_spool(self) -> None:
        self._spool.seek(0)
        self._spool.truncate()

    def _news(self) -> UploadParts:
        return UploadParts(self._multipart_id, self._new_etags, self._recorded_pieces)

    def _record(self, offset: int) -> None:
        """Says that the bytes up to an offset are safe; those behind it are still in the spool."""
        parts = UploadParts(self._multipart_id, self._new_etags, self._pieces)
        self._store.advance(self._upload.id, self._token, offset, parts)
        unused = set(self._recorded_pieces) - set(self._pieces)
        self._recorded, self._recorded_pieces, self._new_etags = offset, self._pieces, {}
        for key, _ in unused:
            self._storage.delete(key)

    def _go_back(self) -> None:
        """Makes the upload as long as the parts that are as they were sent. A process that was thought dead
        may have sent one again after its successor had."""
        stored = {part.number: part.etag for part in self._bucket.parts(self._key, self._multipart_id)}
        number = 1
        while number in self._etags and stored.get(number) == self._etags[number]:
            number += 1
        offset = (number - 1) * self._part_bytes
        if offset >= self._upload.size_bytes:
            return
        _log.warning("upload.parts_changed", upload_id=self._upload.id, offset=offset)
        self._store.advance(self._upload.id, self._token, offset, UploadParts())
        raise WrongOffsetError(
            f"of this upload {offset} bytes are left in the storage; go on from there", offset=offset
        )
