"""Where the source of a job is fetched from, when it did not come with its request, and where its result is
delivered to."""

from __future__ import annotations

from enum import StrEnum
from urllib.parse import urlsplit

from jobs.values import Value


class FetchedSource(Value):
    """An address that a job's source comes from, and what its customer may have.

    Attributes:
        url: https:// or s3://.
        filename: What the customer calls it, or the end of the address.
        max_bytes: Of the source.
        max_output_pixels: Of the result; 0 is no limit.
    """

    url: str
    filename: str
    max_bytes: int
    max_output_pixels: int = 0


class DeliveryStatus(StrEnum):
    """How far a delivery is: it waits for the job's end, is tried until it succeeds, or was given up."""

    WAITING = "waiting"
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class ResultDelivery(Value):
    """A result on its way to its customer's storage.

    Attributes:
        url: Where it goes: the s3:// address of an object, or an https:// address to PUT it to, whose query
            is a secret of the customer's.
        status: How far it is.
        attempts: That failed or succeeded, since it was asked for.
        code: Why the last attempt failed; None if none did.
        message: The same for people, without secrets.
        asked_ms: When it was asked for, in milliseconds since 1970; tells it from the one before.
        ended_ms: When it succeeded or was given up; None before.
    """

    url: str
    status: DeliveryStatus
    attempts: int = 0
    code: str | None = None
    message: str | None = None
    asked_ms: int = 0
    ended_ms: int | None = None


def public_address(url: str) -> str:
    """An address as it may be shown and logged: without its query, where signatures are."""
    parts = urlsplit(url)
    return url if parts.scheme == "s3" else f"{parts.scheme}://{parts.netloc}{parts.path}"
