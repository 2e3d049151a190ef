"""What can go wrong between a program and the service, as exceptions with a stable `code`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dovetail_client.models import Batch, Job


class DovetailError(Exception):
    """Base of every error this package raises on purpose.

    Attributes:
        code: A stable name, the same as in the service's answers where it comes from one.
    """

    code: str = "client_error"


class ConnectionFailedError(DovetailError):
    """Raised when no answer came: no connection, a broken one, or silence for too long.

    Attributes:
        is_unsent: Whether the request surely never reached the service.
    """

    code = "connection_failed"

    def __init__(self, message: str, *, is_unsent: bool = False) -> None:
        super().__init__(message)
        self.is_unsent = is_unsent


class UnexpectedAnswerError(DovetailError):
    """Raised when an answer is not one of this service, such as a proxy's page."""

    code = "unexpected_answer"


class TransferError(DovetailError):
    """Raised when an upload or download cannot be finished: it breaks again and again, or its file is another
    one now."""

    code = "transfer_failed"


class ChecksumMismatchError(TransferError):
    """Raised when bytes arrive changed, even on a second try."""

    code = "checksum_mismatch"


class JobFailedError(DovetailError):
    """Raised when a job that was waited for failed.

    Attributes:
        job: The job; `job.error` says why.
    """

    def __init__(self, job: Job) -> None:
        error = job.error
        super().__init__(f"{job.id} failed: {error.message if error else 'the service does not say why'}")
        self.job = job
        self.code = error.code if error else "job_failed"


class JobCancelledError(DovetailError):
    """Raised when a job that was waited for was cancelled.

    Attributes:
        job: The job.
    """

    code = "job_cancelled"

    def __init__(self, job: Job) -> None:
        super().__init__(f"{job.id} was cancelled")
        self.job = job


class WaitTimeoutError(DovetailError):
    """Raised when something is not finished after the time one wanted to wait. It goes on.

    Attributes:
        last: The job or batch as it was last seen.
    """

    code = "wait_timeout"

    def __init__(self, last: Job | Batch, timeout_seconds: float) -> None:
        super().__init__(f"{last.id} is still {last.status} after {timeout_seconds:g} s; it goes on")
        self.last = last


_CLASSES: dict[int | str, type[APIError]] = {}
"""By status, and by code."""


class APIError(DovetailError):
    """Raised when the service refuses a request.

    Attributes:
        status: HTTP status.
        code: The service's stable name for the problem; "http_<status>" where it gave none.
        title: What kind of problem it is.
        detail: What was wrong this time.
        errors: For each wrong field: `loc`, `message`, `received`.
        request_id: To be quoted when asking the operator.
        retry_after_seconds: When it is worth trying again; None where the service did not say.
    """

    def __init_subclass__(cls, *, statuses: Iterable[int] = (), codes: Iterable[str] = ()) -> None:
        _CLASSES.update(dict.fromkeys([*statuses, *codes], cls))

    def __init__(
        self,
        status: int,
        code: str,
        *,
        title: str = "",
        detail: str = "",
        errors: Sequence[dict[str, Any]] = (),
        request_id: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self._describe())

    def _describe(self) -> str:
        lines = [self.detail or self.title or f"the service answered {self.status}"]
        for error in self.errors:
            place = ".".join(str(part) for part in error.get("loc", ()) if part != "body")
            text = str(error.get("message", ""))
            if text and text not in lines[0]:
                lines.append(f"{place}: {text}" if place else text)
        return "; ".join(lines) + f" ({self.code}, HTTP {self.status})"


class InvalidRequestError(APIError, statuses=(400, 405, 422)):
    """Raised when the service does not accept a field, an option or a source."""


class UnauthorizedError(APIError, statuses=(401,)):
    """Raised when the key is missing or unknown."""


class ForbiddenError(APIError, statuses=(403,)):
    """Raised when the key does not allow what was asked."""


class NotFoundError(APIError, statuses=(404,)):
    """Raised when there is no such job, batch or upload, or none that the key may see."""


class ConflictError(APIError, statuses=(409,)):
    """Raised when the state of something does not allow what was asked."""


class NotReadyError(ConflictError, codes=("not_ready",)):
    """Raised when a result is asked for before it is there."""


class IdempotencyConflictError(InvalidRequestError, codes=("idempotency_conflict",)):
    """Raised when an idempotency key was used before with another request."""


class GoneError(APIError, statuses=(410,)):
    """Raised when something has expired or was deleted."""


class TooLargeError(APIError, statuses=(413,)):
    """Raised when a file is larger than the service takes."""


class NotAVideoError(
    APIError,
    statuses=(415,),
    codes=(
        *("not_a_video", "unreadable_input", "no_video", "no_frames", "unsupported_codec"),
        *("input_limit", "input_crashed_decoder", "input_timeout", "input_memory"),
    ),
):
    """Raised when a file is no video that the service can read."""


class RateLimitedError(APIError, statuses=(429,)):
    """Raised when too much was asked in too short a time, and waiting did not help."""


class QuotaExceededError(RateLimitedError, codes=("quota_exceeded",)):
    """Raised when the key has as many jobs or bytes as it may have."""


class UnavailableError(APIError, statuses=(502, 503, 504)):
    """Raised when the service cannot answer now, and waiting did not help."""


class QueueFullError(UnavailableError, codes=("queue_full",)):
    """Raised when as many jobs wait as the service takes."""


class StorageFullError(APIError, statuses=(507,)):
    """Raised when the service has no room for a file."""


def error_class(status: int, code: str) -> type[APIError]:
    """The class for a problem: by its code where one is named after it, else by its status."""
    return _CLASSES.get(code) or _CLASSES.get(status) or APIError
