"""What the words mean that scripts on jobs answer with."""

from __future__ import annotations

from jobs.errors import (
    JobNotFoundError,
    JobStateError,
    LostLeaseError,
    OwnerLimitError,
    QueueFullError,
    QuotaExceededError,
    StoredBytesLimitError,
)

_LOST = {
    "gone": "the job was deleted",
    "stopped": "the job has ended or is being cancelled",
    "lost": "another attempt has taken over",
}


def require_lease(job_id: str, task: str, outcome: bytes) -> None:
    """Reads the answer of a script that needs a lease.

    Raises:
        LostLeaseError: If the attempt does not hold it.
    """
    if outcome != b"ok":
        raise LostLeaseError(f"{task} of {job_id} is not to be continued: {_LOST[outcome.decode()]}")


def require_stored(outcome: bytes, what: str, size_bytes: int, max_stored_bytes: int) -> None:
    """Reads the answer of a script by which an attempt adds to what its job's owner has stored.

    Raises:
        QuotaExceededError: If the owner has no room for it.
    """
    if outcome == b"stored_full":
        raise QuotaExceededError(
            f"{what} has {size_bytes} bytes, and with it your uploads and jobs would take more than the "
            f"{max_stored_bytes} that your key allows; delete some, and retry"
        )


def require_changed(job_id: str, outcome: bytes, verb: str) -> None:
    """Reads the answer of a script that changes a job's state.

    Raises:
        JobNotFoundError: If there is no such job.
        JobStateError: If its state does not allow it.
    """
    if outcome == b"gone":
        raise JobNotFoundError(job_id)
    if outcome != b"ok":
        raise JobStateError(f"job {job_id} is {outcome.decode()} and cannot be {verb}")


def require_room(
    outcome: bytes,
    number: int,
    *,
    max_waiting: int,
    max_of_owner: int,
    max_stored_bytes: int,
    more_bytes: int = 0,
) -> None:
    """Reads the answer of a script that adds to what is under way.

    Raises:
        QueueFullError: If too many jobs wait.
        QuotaExceededError: If the owner has as many jobs, or bytes, as they may.
    """
    if outcome == b"queue_full":
        raise QueueFullError(number, max_waiting)
    if outcome == b"owner_full":
        raise OwnerLimitError(number, max_of_owner)
    if outcome == b"stored_full":
        raise StoredBytesLimitError(number, more_bytes, max_stored_bytes)
