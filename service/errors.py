"""Errors of the API: each knows its HTTP status, and one handler turns all of them into RFC 9457 problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from jobs.errors import JobsError


class ServiceError(Exception):
    """Base of every error the API answers on purpose.

    Attributes:
        status: HTTP status.
        code: Stable name.
        title: What kind of problem it is; the same for every occurrence.
        headers: To be sent with it.
        errors: One entry per wrong value: `loc`, `message`, `received`.
    """

    status: int = 500
    code: ClassVar[str] = "internal_error"
    title: str = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        errors: Sequence[dict[str, Any]] = (),
        code: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.headers = headers or {}
        self.errors = tuple(errors)
        self.problem_code = code or self.code


class InvalidRequestError(ServiceError):
    """Raised when values are missing, unknown, out of range or contradictory."""

    status, code, title = 422, "invalid_request", "Invalid request"


class MalformedRequestError(ServiceError):
    """Raised when a body or header cannot be read at all."""

    status, code, title = 400, "malformed_request", "Malformed request"


class UnauthorizedError(ServiceError):
    """Raised when there is no valid API key."""

    status, code, title = 401, "unauthorized", "Unauthorized"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="dovetail"'})


class ForbiddenError(ServiceError):
    """Raised when the API key may not do this."""

    status, code, title = 403, "forbidden", "Forbidden"


class NotFoundError(ServiceError):
    """Raised when there is no such thing, or it is another customer's."""

    status, code, title = 404, "not_found", "Not found"


class ConflictError(ServiceError):
    """Raised when the state of a thing does not allow what was asked."""

    status, code, title = 409, "wrong_state", "Wrong state"


class NotReadyError(ServiceError):
    """Raised when a result is not there yet."""

    status, code, title = 409, "not_ready", "Not ready"

    def __init__(self, detail: str, *, retry_after_seconds: int = 5) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class GoneError(ServiceError):
    """Raised when a thing was there and will not come back."""

    status, code, title = 410, "gone", "Gone"


class TooLargeError(ServiceError):
    """Raised when an upload is larger than accepted."""

    status, code, title = 413, "too_large", "Too large"


class UnsupportedMediaError(ServiceError):
    """Raised when an upload is not a video that can be read, or a body has the wrong type."""

    status, code, title = 415, "unsupported_media", "Unsupported media"


class QuotaError(ServiceError):
    """Raised when a key has used up what it may have at a time."""

    status, code, title = 429, "quota_exceeded", "Quota exceeded"

    def __init__(self, detail: str, *, retry_after_seconds: int = 30) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class UnavailableError(ServiceError):
    """Raised when a part of the installation does not answer, or its queue is full."""

    status, code, title = 503, "unavailable", "Unavailable"

    def __init__(self, detail: str, *, retry_after_seconds: int = 5, code: str | None = None) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)}, code=code)


class StorageFullServiceError(ServiceError):
    """Raised when there is no room for an upload."""

    status, code, title = 507, "storage_full", "Storage full"


# Errors of the jobs package, by their code.
_OF_JOBS: dict[str, type[ServiceError]] = {
    "not_found": NotFoundError,
    "object_not_found": GoneError,
    "wrong_state": ConflictError,
    "quota_exceeded": QuotaError,
    "storage_full": StorageFullServiceError,
}
_UNAVAILABLE = frozenset({"queue_full", "store_unavailable", "storage_error"})
# Errors of the media package: what is wrong with an upload.
_OF_MEDIA: dict[str, type[ServiceError]] = {
    "input_limit": InvalidRequestError,
    "input_timeout": InvalidRequestError,
}


def from_jobs_error(error: JobsError) -> ServiceError:
    """What the API answers to an error of the jobs package."""
    if error.code in _UNAVAILABLE:
        code = "queue_full" if error.code == "queue_full" else None
        return UnavailableError(str(error), retry_after_seconds=30 if code else 5, code=code)
    found = _OF_JOBS.get(error.code)
    return found(str(error)) if found else ServiceError("an internal error occurred")


def from_media_error(code: str, message: str) -> ServiceError:
    """What the API answers to a file that the probe refused; the code is the probe's."""
    return _OF_MEDIA.get(code, UnsupportedMediaError)(message, code=code)
