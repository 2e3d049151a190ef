"""Where a job's result is delivered to, and how far that is."""

from __future__ import annotations

from enum import StrEnum
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict


class DeliveryStatus(StrEnum):
    """How far a delivery is: it waits for the job's end, is tried until it succeeds, or was given up."""

    WAITING = "waiting"
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class ResultDelivery(BaseModel):
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

    model_config = ConfigDict(extra="forbid", frozen=True)

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
