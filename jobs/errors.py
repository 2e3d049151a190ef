"""What can go wrong with records, queue and storage, as exceptions with a stable `code`."""

from __future__ import annotations

from typing import ClassVar


class JobsError(Exception):
    """Base of every error this package raises on purpose; the message says what was received and the way
    out."""

    code: ClassVar[str] = "jobs_error"


class RedisClusterError(JobsError):
    """Raised at the start where Redis is a cluster."""

    code = "redis_cluster"


class RecordNotFoundError(JobsError):
    """Raised when there is nothing of that id, or nothing that the asker may see."""

    code = "not_found"
    kind: ClassVar[str]

    def __init__(self, record_id: str) -> None:
        super().__init__(
            f"there is no {self.kind} {record_id!r}; it was deleted, has expired, or never existed"
        )


class JobNotFoundError(RecordNotFoundError):
    """Raised for jobs."""

    kind = "job"


class BatchNotFoundError(RecordNotFoundError):
    """Raised for batches."""

    kind = "batch"


class UploadNotFoundError(RecordNotFoundError):
    """Raised for uploads."""

    kind = "upload"


class JobStateError(JobsError):
    """Raised when a job's state does not allow what was asked, such as cancelling a completed one."""

    code = "wrong_state"


class JobExistsError(JobStateError):
    """Raised when a job of that id was made before, by another request or another attempt at this one."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is a job {job_id} already")


class QueueFullError(JobsError):
    """Raised when as many jobs wait as the queue takes.

    Attributes:
        limit: How many may wait.
    """

    code = "queue_full"

    def __init__(self, num_waiting: int, limit: int) -> None:
        super().__init__(f"{num_waiting} jobs are waiting, the queue takes {limit}; try again later")
        self.limit = limit


class QuotaExceededError(JobsError):
    """Base of errors about limits of one key. Raised by workers when a job turns out to ask for more than its
    key allows."""

    code = "quota_exceeded"


class OwnerLimitError(QuotaExceededError):
    """Raised when one owner has as many unfinished jobs as their key allows."""

    def __init__(self, num_unfinished: int, limit: int) -> None:
        super().__init__(
            f"{num_unfinished} of your jobs are unfinished, your key allows {limit}; wait for one to finish"
        )


class UploadsLimitError(QuotaExceededError):
    """Raised when one owner has as many unfinished uploads as their key allows."""

    def __init__(self, num_unfinished: int, limit: int) -> None:
        super().__init__(
            f"{num_unfinished} of your uploads are unfinished, your key allows {limit}; finish or end one"
        )


class StoredBytesLimitError(QuotaExceededError):
    """Raised when something would not fit into the bytes that a key may store."""

    def __init__(self, stored: int, more: int, limit: int) -> None:
        super().__init__(
            f"your uploads and jobs take {stored} bytes, your key allows {limit}; {more} more do not fit; "
            "delete some"
        )


class LostLeaseError(JobsError):
    """Raised when an attempt no longer holds the lease of its task: another one has taken over, or the job
    was cancelled. What it has made is thrown away."""

    code = "lost_lease"


class LostUploadLockError(JobsError):
    """Raised when a writer has been silent so long that it may not go on."""

    code = "wrong_state"


class StorageError(JobsError):
    """Raised when objects cannot be read or written."""

    code = "storage_error"


class ObjectNotFoundError(StorageError):
    """Raised when there is no object under a key."""

    code = "object_not_found"


class ObjectChangedError(StorageError):
    """Raised when an object is not the one any more that was begun to be read."""

    code = "object_changed"


class StorageFullError(StorageError):
    """Raised when there is no room for an object. Nothing of it is left, and no job is lost."""

    code = "storage_full"


class StoreUnavailableError(JobsError):
    """Raised when Redis does not answer in time."""

    code = "store_unavailable"
