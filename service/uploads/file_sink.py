"""Bytes of an upload in a file that grows in the storage's folder: synced before they are acknowledged."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

from jobs.errors import StorageFullError
from jobs.objects import incoming_prefix, upload_key
from jobs.storage import Storage
from jobs.syncing import make_synced_folder, sync
from jobs.upload_records import Upload
from jobs.uploads import UploadStore
from service.errors import GoneError
from service.room import reported_full
from service.uploads.protocol import UploadLockedError

# A killed server loses at most so much of what has arrived.
_CHECKPOINT_BYTES = 64 << 20


def growing_file(folder: Path, upload_id: str) -> Path:
    """Where an unfinished upload is in a storage's folder. Processes that share the folder share it."""
    return folder / incoming_prefix(upload_id) / "bytes"


def reserve_file(storage: Storage, folder: Path, upload: Upload) -> None:
    """Makes an upload's file with all the room that it will take, so that nobody else can take it: not
    another upload that looked at the same free room, and no worker.

    Raises:
        StorageFullError: If there is not so much.
    """
    storage.check_room(upload.size_bytes)
    path = growing_file(folder, upload.id)
    make_synced_folder(path.parent)
    try:
        with reported_full(), path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, upload.size_bytes)
        # Two that looked at the same time have both been let in.
        storage.check_room(0)
    except StorageFullError:
        storage.delete_prefix(incoming_prefix(upload.id))
        raise
    sync(path.parent)


class FileSink:
    """The file, which has its full length from the beginning, with nobody else writing.

    Args:
        storage: In whose folder it lies.
        folder: That.
        upload: Whose bytes come.
        store: Is told how far it is.
        token: Of the upload's lock.

    Raises:
        GoneError: If the bytes that were there before are not, when the block begins.
        UploadLockedError: If another process still writes, when the block begins.
    """

    def __init__(
        self, storage: Storage, folder: Path, upload: Upload, store: UploadStore, token: str
    ) -> None:
        self.offset = self._recorded = upload.offset
        self._storage, self._upload = storage, upload
        self._path = growing_file(folder, upload.id)
        self._store, self._token = store, token
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR)
        except FileNotFoundError as error:
            raise GoneError("the bytes of this upload are gone; begin it again") from error
        try:
            self._prepare()
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._descriptor)

    def write(self, block: bytes) -> None:
        view = memoryview(block)
        with reported_full():
            while view:
                written = os.pwrite(self._descriptor, view, self.offset)
                self.offset += written
                view = view[written:]

    def checkpoint(self) -> None:
        if self.offset - self._recorded >= _CHECKPOINT_BYTES:
            self.keep()

    def keep(self) -> None:
        if self.offset == self._recorded:
            return
        with reported_full():
            os.fsync(self._descriptor)
        # Whoever is killed at the last byte is sent a little again.
        if self.offset < self._upload.size_bytes:
            self._store.advance(self._upload.id, self._token, self.offset)
        self._recorded = self.offset

    def complete(self) -> None:
        self._storage.put_file(upload_key(self._upload.id), self._path, is_movable=True)
        self._storage.delete_prefix(incoming_prefix(self._upload.id))

    def _prepare(self) -> None:
        try:
            # Besides the lock in Redis, which runs out while a process is stopped.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UploadLockedError("another request writes to this upload; try again in a moment") from error
        except OSError:
            pass  # a file system without locks; the one in Redis has to do
        if os.fstat(self._descriptor).st_size < self._upload.offset:
            raise GoneError("bytes of this upload are gone; begin it again")
        os.ftruncate(self._descriptor, self._upload.size_bytes)
