"""The folder beside the output that holds the segments of a run until they are joined."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from media.derived_names import beside
from workers.errors import DiskFullError, OutputFolderError, UnfinishedWorkError, is_disk_full
from workers.run.options import Existing
from workers.run.record import RunRecord, load_record

if sys.platform != "win32":
    import fcntl

_LOCK_NAME = "lock"
_IMAGE_NAME = "compare.png"
_OWN_FILES = re.compile(r"((run|manifest)\.json|lock|compare\.png|(segment|compare)-\d{5}\.mp4)(\.part)?")


class WorkFolder:
    """A work folder, locked against other processes while it is open.

    Args:
        destination: The output that it is for.
        existing: What to do with the segments of an earlier run.

    Raises:
        UnfinishedWorkError: If there are some and `existing` is "refuse".
        OutputFolderError: If the folder cannot be used, or another process is using it.
    """

    def __init__(self, destination: Path, *, existing: Existing) -> None:
        self.path = work_folder_path(destination)
        self.warnings: list[str] = []
        """What the file system cannot do."""
        self._lock: IO[str] | None = None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            error_class = DiskFullError if is_disk_full(error) else OutputFolderError
            raise error_class(f"cannot write to {self.path.parent}: {error.strerror or error}") from error
        self.record: RunRecord | None = None
        try:
            if existing == "refuse" and self.num_segments:
                raise UnfinishedWorkError(self.path)
            if existing == "resume":
                self.record = load_record(self.path)
            if self.record is None:
                self.clear()
        except BaseException:
            self.close()
            raise

    @property
    def num_segments(self) -> int:
        """Finished segments that lie in the folder."""
        return sum(1 for _ in self.path.glob("segment-*.mp4"))

    @property
    def image_path(self) -> Path:
        """Where the comparison picture waits."""
        return self.path / _IMAGE_NAME

    def segment_name(self, index: int) -> str:
        return f"segment-{index:05d}.mp4"

    def compare_name(self, index: int) -> str:
        return f"compare-{index:05d}.mp4"

    def clear(self) -> None:
        """Removes the files of earlier runs, and nothing that this program did not write."""
        for path in self.path.iterdir():
            if _OWN_FILES.fullmatch(path.name) and path.name != _LOCK_NAME:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Removes the folder; foreign files in it, and then the folder, stay."""
        with contextlib.suppress(OSError):
            self.clear()
            (self.path / _LOCK_NAME).unlink(missing_ok=True)
            self.close()
            self.path.rmdir()

    def close(self) -> None:
        """Unlocks the folder. Harmless a second time."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _take_lock(self) -> None:
        # The kernel drops the lock when the process dies, however it dies; a file with a process id would
        # stay.
        self._lock = (self.path / _LOCK_NAME).open("w")
        if sys.platform != "win32":
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:  # the second where NFS stands for the first
                self.close()
                raise OutputFolderError(
                    f"another process is writing into {self.path}; wait for it or choose another output"
                ) from error
            except OSError as error:
                self.warnings.append(
                    f"the file system of {self.path.parent} has no locks ({error.strerror}): two runs of one "
                    "output would not notice each other"
                )
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()


def work_folder_path(destination: Path) -> Path:
    """Where the work folder of an output lies."""
    return beside(destination, ".dovetail")
