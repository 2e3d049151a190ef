"""Webhooks on the wire: what is posted, what became of it, what signs it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from jobs.webhook_secrets import WebhookSecrets
from service.batches.schemas import BatchSchema
from service.jobs.schemas import JobSchema
from service.webhooks.outbox import DeliveryRecord, DeliveryState

_DAY = 24 * 3600
_EXAMPLE_ID = "msg_job_01k9zq3v5n8w2c7m4t6y1x0abc_completed_1795262400000"


class DeliveryLinks(BaseModel):
    """Where to go from here; paths on this server."""

    redeliver: str


class JobWebhook(BaseModel):
    """What is posted when something happens to a job."""

    type: Literal[
        "job.started", "job.completed", "job.failed", "job.cancelled", "job.delivered", "job.undelivered"
    ]
    timestamp: Annotated[datetime, Field(description="When it happened.")]
    data: Annotated[JobSchema, Field(description="The job; links have the address of the server.")]


class BatchWebhook(BaseModel):
    """What is posted when nothing more is to come of a batch."""

    type: Literal["batch.completed"]
    timestamp: Annotated[datetime, Field(description="When it happened.")]
    data: Annotated[BatchSchema, Field(description="The batch; links have the address of the server.")]


class DeliverySchema(BaseModel):
    """An event for a customer, and what has become of it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _EXAMPLE_ID,
                    "object": "delivery",
                    "event": "job.completed",
                    "url": "https://example.com/hooks/dovetail",
                    "status": "failed",
                    "attempts": 10,
                    "last_outcome": "503",
                    "last_attempt_at": "2026-11-22T01:00:00Z",
                    "queued_at": "2026-11-21T12:00:00Z",
                    "links": {"redeliver": f"/v1/webhooks/deliveries/{_EXAMPLE_ID}/redeliver"},
                }
            ]
        }
    )

    id: Annotated[str, Field(description="The `webhook-id` of all its attempts.")]
    object: Literal["delivery"] = "delivery"
    event: str
    url: str
    status: Annotated[
        DeliveryState, Field(description="disabled: the address answered 410, and gets nothing for a day.")
    ]
    attempts: int
    last_outcome: Annotated[
        str | None, Field(description="HTTP status of the last answer, or why there was none.")
    ]
    last_attempt_at: datetime | None
    queued_at: Annotated[datetime, Field(description="When it happened, or was last asked for again.")]
    links: DeliveryLinks

    @classmethod
    def of(cls, record: DeliveryRecord) -> Self:
        """A delivery as customers see it."""
        delivery = record.delivery
        return cls(
            id=delivery.id,
            event=delivery.event,
            url=delivery.url,
            status=record.state,
            attempts=record.attempts,
            last_outcome=record.last_outcome,
            last_attempt_at=record.last_attempt_at,
            queued_at=datetime.fromtimestamp(delivery.at_ms / 1000, UTC),
            links=DeliveryLinks(redeliver=f"/v1/webhooks/deliveries/{delivery.id}/redeliver"),
        )


class DeliveryListSchema(BaseModel):
    """Events of one job or batch, the oldest first; they are kept for three days."""

    object: Literal["list"] = "list"
    data: list[DeliverySchema]


class WebhookSecretSchema(BaseModel):
    """What signs the webhooks of the caller's jobs and batches."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "secret": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
                    "created_at": "2026-01-01T12:00:00Z",
                    "num_previous": 1,
                }
            ]
        }
    )

    secret: Annotated[
        str, Field(description='"whsec_" and base64: for a library of Standard Webhooks, as it is.')
    ]
    created_at: datetime
    num_previous: Annotated[
        int, Field(description="Earlier secrets that sign too, until receivers have changed.")
    ]

    @classmethod
    def of(cls, found: WebhookSecrets) -> Self:
        """Secrets as customers see them."""
        num_previous = len(found.signing()) - 1 + found.is_sharing
        return cls(secret=found.secret, created_at=found.created_at, num_previous=num_previous)


class RotationRequest(BaseModel):
    """Asks for a new secret."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"overlap_seconds": _DAY}]})

    overlap_seconds: Annotated[
        int,
        Field(
            strict=True,  # or true would be a second
            ge=0,
            le=30 * _DAY,
            description="How long the present secret signs too. 0 ends it at once, for one that has leaked.",
        ),
    ] = _DAY
