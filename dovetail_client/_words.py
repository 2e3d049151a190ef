"""Words of the service, as closed sets that may grow on its side."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class _TolerantEnum(StrEnum):
    """A closed set that may grow on the other side: a new word becomes UNKNOWN."""

    @classmethod
    def _missing_(cls, value: object) -> Self:
        return cls["UNKNOWN"]


class _Status(_TolerantEnum):
    @property
    def is_final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in ("completed", "failed", "cancelled")


class JobStatus(_Status):
    """Where a job is."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class BatchStatus(_Status):
    """Where a batch is; completed means that every job is final, not that each one succeeded."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class Stage(_TolerantEnum):
    """What is being done to a job: fetching while it is queued, the others while it is in progress."""

    FETCHING = "fetching"
    PLANNING = "planning"
    UPSCALING = "upscaling"
    JOINING = "joining"
    UNKNOWN = "unknown"


class UploadStatus(_TolerantEnum):
    """Whether all bytes of an upload are there."""

    UPLOADING = "uploading"
    COMPLETED = "completed"
    UNKNOWN = "unknown"


class Priority(_TolerantEnum):
    """A job of a higher priority goes first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"
    UNKNOWN = "unknown"


class DeliveryStatus(_TolerantEnum):
    """What has become of a webhook; disabled: its address answered 410, and gets nothing for a day."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    DISABLED = "disabled"
    UNKNOWN = "unknown"
