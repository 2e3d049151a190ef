"""The bytes of a file that have come so far, on the disk.

They are `FILE.part`; `FILE.part.json` says which state of the file they are a part of.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ValidationError

from pipelines.store.errors import DigestMismatchError, StoreFullError, folder_error
from pipelines.store.records import StoredFile
from pipelines.store.remote import RemoteFile, check_file

SPARE_BYTES = 16 << 20


def check_room(folder: Path, num_bytes: int) -> None:
    """Looks whether so many bytes more fit the disk.

    Raises:
        StoreFullError: If not.
        StoreFolderError: If the folder cannot be asked.
    """
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise folder_error(error, folder) from error
    if num_bytes + SPARE_BYTES > free:
        raise StoreFullError(
            f"{num_bytes / 1e9:.2f} GB more are needed in {folder}, where {free / 1e9:.2f} GB are free"
        )


class PartState(BaseModel):
    """Which state of a file a part belongs to.

    Attributes:
        validator: ETag or date that the server gave.
        digest: What the whole should have.
        total_bytes: Size of the whole.
    """

    validator: str | None = None
    digest: str | None = None
    total_bytes: int | None = None


class PartFile:
    """The bytes so far, on the disk.

    Args:
        destination: Where the whole file will be; the part lies beside it.

    Raises:
        OSError: If it cannot be opened.
        StoreFolderError: If it cannot be written.
    """

    def __init__(self, destination: Path) -> None:
        self.path = destination.with_name(f"{destination.name}.part")
        self._state_path = destination.with_name(f"{destination.name}.part.json")
        self._file: BinaryIO = self.path.open("ab", buffering=0)
        self.num_bytes = self._file.tell()
        try:
            self.state = PartState.model_validate_json(self._state_path.read_bytes())
        except (FileNotFoundError, ValidationError):
            self.restart(PartState())

    def restart(self, state: PartState) -> None:
        """Forgets all bytes; those to come are of another state of the file.

        Raises:
            StoreFolderError: If it cannot be written.
        """
        with self._reported():
            if self.num_bytes:
                self._file.truncate(0)
            self._state_path.write_text(state.model_dump_json(), encoding="utf-8")
        self.num_bytes, self.state = 0, state

    def append(self, chunk: bytes) -> None:
        """Writes at the end; of a chunk that does not fit, as much as does.

        Raises:
            StoreFolderError: If not all of it can be written.
        """
        view = memoryview(chunk)
        with self._reported():
            while view:
                num_written = self._file.write(view) or 0
                self.num_bytes += num_written
                view = view[num_written:]

    def finish(self, file: RemoteFile, destination: Path) -> StoredFile:
        """Gives the file its name if it is what it should be; deletes it otherwise.

        Raises:
            DigestMismatchError: If it is not.
            StoreFolderError: If it cannot be brought to the disk.
        """
        with self._reported():
            os.fsync(self._file.fileno())
            try:
                stored = check_file(file, self.path)
            except DigestMismatchError:
                self.path.unlink()
                raise
            finally:
                self._state_path.unlink()
            self.path.replace(destination)
        return stored

    def close(self) -> None:
        """Keeps the bytes for another time."""
        self._file.close()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Says which file it was when the disk is full or cannot be written."""
        try:
            yield
        except OSError as error:
            raise folder_error(error, self.path) from error
