"""A typed client of Dovetail's HTTP API.

from dovetail_client import Dovetail

with Dovetail("http://127.0.0.1:8000") as client:
    job = client.submit("clip.mp4", scale=2)
    client.wait(job)
    client.download(job, "clip-2x.mp4")
"""

from dovetail_client._downloads import default_name
from dovetail_client._sources import Source
from dovetail_client._words import BatchStatus, DeliveryStatus, JobStatus, Priority, Stage, UploadStatus
from dovetail_client.account_models import Delivery, Key, Me, NewKey, WebhookSecret
from dovetail_client.aclient import AsyncDovetail
from dovetail_client.client import Dovetail
from dovetail_client.errors import (
    APIError,
    ChecksumMismatchError,
    ConflictError,
    ConnectionFailedError,
    DovetailError,
    ForbiddenError,
    GoneError,
    IdempotencyConflictError,
    InvalidRequestError,
    JobCancelledError,
    JobFailedError,
    NotAVideoError,
    NotFoundError,
    NotReadyError,
    QueueFullError,
    QuotaExceededError,
    RateLimitedError,
    StorageFullError,
    TooLargeError,
    TransferError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedAnswerError,
    WaitTimeoutError,
)
from dovetail_client.models import (
    Batch,
    BatchCounts,
    BatchResult,
    Estimate,
    Job,
    JobDelivery,
    JobEvent,
    JobInput,
    JobList,
    JobOutput,
    Model,
    Problem,
    Upload,
)
from dovetail_client.options import JobOptions, SubmitOptions, WebhookTarget

__all__ = [  # noqa: RUF022 - grouped by topic
    # Clients
    "AsyncDovetail",
    "Dovetail",
    # What goes in
    "JobOptions",
    "Source",
    "SubmitOptions",
    "WebhookTarget",
    # What comes back
    "Batch",
    "BatchCounts",
    "BatchResult",
    "BatchStatus",
    "Delivery",
    "DeliveryStatus",
    "Estimate",
    "Job",
    "JobDelivery",
    "JobEvent",
    "JobInput",
    "JobList",
    "JobOutput",
    "JobStatus",
    "Key",
    "Me",
    "Model",
    "NewKey",
    "Priority",
    "Problem",
    "Stage",
    "Upload",
    "UploadStatus",
    "WebhookSecret",
    "default_name",
    # Errors
    "APIError",
    "ChecksumMismatchError",
    "ConflictError",
    "ConnectionFailedError",
    "DovetailError",
    "ForbiddenError",
    "GoneError",
    "IdempotencyConflictError",
    "InvalidRequestError",
    "JobCancelledError",
    "JobFailedError",
    "NotAVideoError",
    "NotFoundError",
    "NotReadyError",
    "QueueFullError",
    "QuotaExceededError",
    "RateLimitedError",
    "StorageFullError",
    "TooLargeError",
    "TransferError",
    "UnauthorizedError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "WaitTimeoutError",
]
