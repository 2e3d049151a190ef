"""What can go wrong with pulled models."""

from __future__ import annotations

import errno
from pathlib import Path

from pipelines.errors import PipelineError


class StoreError(PipelineError):
    """Base of the errors about pulled models."""

    code = "store_error"


class SourceError(StoreError):
    """Raised when what should be pulled is named in a way that is not understood or not allowed."""

    code = "model_source"


class ModelNameError(StoreError):
    """Raised when a name cannot be one of a pulled model."""

    code = "model_name"


class ModelExistsError(StoreError):
    """Raised when a pull would replace a model."""

    code = "model_exists"


class NotPulledError(StoreError):
    """Raised when no model of that name was pulled."""

    code = "model_not_pulled"


class DamagedModelError(StoreError):
    """Raised when a pulled model is not what was pulled.

    Attributes:
        path: The file or folder at fault.
    """

    code = "model_damaged"

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


class LicenceError(StoreError):
    """Raised when a licence was not accepted, or contradicts the one that the source declares."""

    code = "licence"


class DownloadError(StoreError):
    """Raised when a source cannot be reached, refuses, or breaks off too often.

    Attributes:
        status: HTTP status of the answer, if there was one.
        is_temporary: Whether the same request may succeed later.
        retry_after_seconds: When the server said when.
    """

    code = "download_failed"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        is_temporary: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.is_temporary = is_temporary
        self.retry_after_seconds = retry_after_seconds


class ContentError(DownloadError):
    """Raised when what came is no model: a web page, a cut file, a repository without weights."""

    code = "no_model"


class DigestMismatchError(DownloadError):
    """Raised when what came does not have the digest that was expected.

    Attributes:
        expected: Hex digest that was asked for or announced.
        received: Hex digest of what came.
    """

    code = "digest_mismatch"

    def __init__(self, message: str, *, expected: str, received: str) -> None:
        super().__init__(message)
        self.expected = expected
        self.received = received


class ModelTooLargeError(StoreError):
    """Raised when a model is larger than the limit.

    Attributes:
        max_bytes: The limit.
    """

    code = "model_too_large"

    def __init__(self, message: str, *, max_bytes: int) -> None:
        super().__init__(message)
        self.max_bytes = max_bytes


class StoreFolderError(StoreError):
    """Raised when the store's folder cannot be read or written."""

    code = "store_folder"


class StoreFullError(StoreFolderError):
    """Raised when a model does not fit the disk."""

    code = "disk_full"


def folder_error(error: OSError, path: Path) -> StoreFolderError:
    """The error that says why a file of the store could not be read or written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFullError(
            f"the disk of {path} is full; what was received is kept: free some space, then the same command "
            "goes on"
        )
    return StoreFolderError(f"cannot use {path}: {error.strerror or error}")
