"""Webhook secrets on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from jobs.webhook_secrets import WebhookSecrets

_DAY = 24 * 3600


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
