"""Deliveries on the wire."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.jobs.submissions import DeliverTo


class DeliveryRequest(BaseModel):
    """Asks for a delivery."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{}, {"deliver_to": "s3://your-bucket/upscaled/"}]}
    )

    deliver_to: Annotated[
        DeliverTo | None, Field(description="As in a submission; null for where it went before.")
    ] = None
