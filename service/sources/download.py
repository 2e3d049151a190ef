"""A file that comes from an address piece by piece, and goes on where an earlier attempt has left it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from service.errors import TooLargeError
from service.room import reported_full

# So much is fetched again at most after a kill or a power cut.
_SYNC_BYTES = 16 << 20


class _Progress(BaseModel):
    """What is kept beside the file.

    Attributes:
        url: Where the file comes from.
        etag: Of the content, as the origin names it.
        num_bytes: That are on the disk.
        total: Length of the content; None where the origin does not say.
        inode: Of the file: an attempt that was thought dead may note something of one that is gone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    etag: str
    num_bytes: int
    total: int | None
    inode: int


class Download:
    """A file on its way, in a `with` block. Not thread-safe.

    Bytes are only ever added behind others of the same content. Where the content is another one, a new file
    is begun under the same name, so that an attempt which was thought dead spoils nothing.

    Args:
        path: Of the file.
        url: Where it comes from.
        max_bytes: That are accepted.
        check_room: Raises StorageFullError where there is no room for so many bytes more.
    """

    def __init__(self, path: Path, url: str, *, max_bytes: int, check_room: Callable[[int], None]) -> None:
        self.path, self.url = path, url
        self.num_bytes, self.etag = 0, ""
        self.total: int | None = None
        self._max_bytes, self._check_room = max_bytes, check_room
        self._next_sync = _SYNC_BYTES
        self._note = note_of(path)
        self._file = path.open("r+b" if self._read_progress() else "w+b")
        self._file.seek(self.num_bytes)
        self._file.truncate()

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):
            self._sync()
        self._file.close()

    @property
    def is_complete(self) -> bool:
        """Whether all of the content is there."""
        return self.total is not None and self.num_bytes == self.total

    def begin(self, *, etag: str, total: int | None) -> None:
        """Starts from the first byte.

        Args:
            etag: Of the content, if the origin has a strong one; else the file cannot be continued.
            total: Length of the content, where the origin says.

        Raises:
            TooLargeError: If that is more than accepted.
            StorageFullError: If there is no room for it.
        """
        if total is not None and total > self._max_bytes:
            raise TooLargeError(f"the source has {total} bytes, {self._max_bytes} are accepted")
        self._check_room(total or _SYNC_BYTES)
        if self.num_bytes:
            self._file.close()
            self.path.unlink()
            self._file = self.path.open("w+b")
        self.num_bytes, self.etag, self.total = 0, etag, total
        self._sync()

    def add(self, piece: bytes) -> None:
        """Adds what comes next. Blocking.

        Raises:
            TooLargeError: If it is more than accepted.
            StorageFullError: If there is no room.
        """
        if self.num_bytes + len(piece) > self._max_bytes:
            raise TooLargeError(f"the source has more than the {self._max_bytes} bytes that are accepted")
        with reported_full():
            self._file.write(piece)
            self.num_bytes += len(piece)
            if self.num_bytes >= self._next_sync:
                self._check_room(_SYNC_BYTES)
                self._sync()

    def _sync(self) -> None:
        """Notes how far the file is, once it is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._next_sync = self.num_bytes + _SYNC_BYTES
        progress = _Progress(
            url=self.url,
            etag=self.etag,
            num_bytes=self.num_bytes,
            total=self.total,
            inode=os.fstat(self._file.fileno()).st_ino,
        )
        part = self._note.with_name(f"{self._note.name}.part")
        part.write_text(progress.model_dump_json())
        part.replace(self._note)

    def _read_progress(self) -> bool:
        """Whether there is something to go on with."""
        try:
            found = _Progress.model_validate_json(self._note.read_bytes())
            file = self.path.stat()
        except (OSError, ValidationError):
            return False
        if found.url != self.url or not found.etag:
            return False
        if file.st_ino != found.inode or file.st_size < found.num_bytes:
            return False
        self.num_bytes, self.etag, self.total = found.num_bytes, found.etag, found.total
        return True


def note_of(path: Path) -> Path:
    """Where the progress of a file is noted."""
    return path.with_name(f"{path.name}.json")


def remove_download(path: Path) -> None:
    """Removes a file and what is noted of it; harmless if there is none."""
    path.unlink(missing_ok=True)
    note_of(path).unlink(missing_ok=True)
