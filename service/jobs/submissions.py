"""What customers submit to have a job made: its source, options, labels, webhook."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from jobs.options import JobOptions
from jobs.specs import Priority

MAX_LABELS = 20
MAX_METADATA_BYTES = 16_384

LabelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
LabelValue = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f:]{0,200}$")]
WebhookEvent = Literal[
    "job.started",
    "job.completed",
    "job.failed",
    "job.cancelled",
    "job.delivered",
    "job.undelivered",
    "batch.completed",
]
DeliverTo = Annotated[
    str,
    Field(
        max_length=4096,
        examples=["s3://your-bucket/upscaled/"],
        description="Where the result is sent when it is there: s3:// in an allowed bucket, an object or a "
        "prefix with a slash at its end; or an https:// address to PUT it to, such as a signed one.",
    ),
]


class UploadSource(BaseModel):
    """A finished upload (`/v1/uploads`)."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["upload"]
    upload_id: Annotated[str, Field(max_length=64, examples=["upl_01k9zq3v5n8w2c7m4t6y1x0abc"])]


class UrlSource(BaseModel):
    """An address the server fetches: https:// on an allowed host, or s3:// in an allowed bucket."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["url"]
    url: Annotated[str, Field(max_length=4096, examples=["https://videos.example.com/clip.mp4"])]


Source = Annotated[UploadSource | UrlSource, Field(discriminator="type")]


class WebhookRequest(BaseModel):
    """Whom to tell when something happens (Standard Webhooks)."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(max_length=2048, examples=["https://example.com/hooks/dovetail"])]
    events: Annotated[list[WebhookEvent], Field(max_length=10, description="Empty for all.")] = []


class JobSettings(BaseModel):
    """What a job is to do, apart from its source; a batch shares these among its jobs."""

    model_config = ConfigDict(extra="forbid")

    options: JobOptions = JobOptions()
    priority: Priority = Priority.NORMAL
    labels: Annotated[
        dict[LabelName, LabelValue], Field(max_length=MAX_LABELS, description="To find jobs by.")
    ] = {}
    metadata: Annotated[
        dict[str, Any], Field(description="Anything of yours, at most 16 KiB as JSON; given back as it is.")
    ] = {}
    webhook: WebhookRequest | None = None
    deliver_to: DeliverTo | None = None

    @field_validator("metadata")
    @classmethod
    def _check_size(cls, value: dict[str, Any]) -> dict[str, Any]:
        size = len(json.dumps(value))
        if size > MAX_METADATA_BYTES:
            raise ValueError(f"metadata takes {size} bytes as JSON, at most {MAX_METADATA_BYTES} are kept")
        return value


class JobForm(JobSettings):
    """The `request` field of a multipart submission."""

    filename: Annotated[
        str | None, Field(max_length=255, description="Shown to people, and the name of the download.")
    ] = None


class JobRequest(JobForm):
    """A submission without a file in it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "source": {"type": "upload", "upload_id": "upl_01k9zq3v5n8w2c7m4t6y1x0abc"},
                    "options": {"scale": 2, "codec": "h265", "crf": 20},
                    "labels": {"project": "archive"},
                }
            ]
        }
    )

    source: Source
