"""What can go wrong around a model, as exceptions with a stable `code`."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import ClassVar


class UpscaleError(Exception):
    """Base of every error this package raises on purpose; the message says what was received and the way
    out."""

    code: ClassVar[str] = "upscale_error"


class InvalidRequestError(UpscaleError):
    """Raised when options contradict one another or the input, such as a preview that starts after the
    end."""

    code = "invalid_request"


class OutputExistsError(UpscaleError):
    """Raised when the output is there already and nobody said that it may be replaced."""

    code = "output_exists"

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists already; choose another name, or replace it with --overwrite")
        self.path = path


class UnfinishedWorkError(UpscaleError):
    """Raised when an interrupted run left segments and the new run was not told what to do with them."""

    code = "unfinished_work"

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} holds the segments of an unfinished run; continue it with --resume, or start again "
            "with --overwrite"
        )
        self.folder = folder


class ResumeMismatchError(UpscaleError):
    """Raised when a run cannot be continued because its input or its options are not the same any more.

    Attributes:
        differences: One line for each value that differs.
    """

    code = "resume_mismatch"

    def __init__(self, folder: Path, differences: list[str]) -> None:
        super().__init__(
            f"cannot continue the run in {folder}: {'; '.join(differences)}. Use the options of that run, or "
            "start again with --overwrite"
        )
        self.differences = differences


class OutputFolderError(UpscaleError):
    """Raised when the folder of the output, or the work folder in it, cannot be made, read or written."""

    code = "output_folder"


class DiskFullError(UpscaleError):
    """Raised when there is no room for the output. Finished segments are kept."""

    code = "disk_full"


# ENOSPC: the disk; EDQUOT: the user's share of it; EFBIG: the largest file that the process may write.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, or one that it was raised from, says that no more can be written."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return True
        seen = seen.__cause__ or seen.__context__
    return False
